/**
 * The benchmark's own meta steps on small shapes, in every variant, against float64: inner steps by
 * hand, the meta-gradient by central differences of the query loss.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import { updateError } from '../../bench/inner-loops/sides/accuracy.js';
import { cellName, CELLS, type Cell } from '../../bench/inner-loops/sides/cells.js';
import { createOurMetaStep, OUR_VARIANTS } from '../../bench/inner-loops/sides/our-meta-step.js';
import { layerNames } from '../../bench/inner-loops/sides/side-protocol.js';
import {
  readWorkloads,
  writeWorkloads,
  type WorkloadArrays,
} from '../../bench/inner-loops/sides/workload-data.js';

type Numbers = number[];
/** Alternating weights `[in * out]` and biases. */
type Layers = Numbers[];

const SMALL = {
  W1: { taskCount: 3, rowsPerTask: 4, widths: [5, 4, 3, 1], trunkLayerCount: 0, table: null },
  W2: {
    ...{ taskCount: 3, rowsPerTask: 2, widths: [6, 4, 3, 1], trunkLayerCount: 1 },
    table: { rowCount: 40, width: 3, fieldCount: 2 },
  },
};

/** Activations of each layer, the input first; the last layer has a ReLU only on request. */
function forward(layers: Layers, input: Numbers, endsInRelu: boolean): Numbers[] {
  const activations = [input];
  for (let index = 0; index < layers.length; index += 2) {
    const [x, weight, bias] = [activations.at(-1)!, layers[index]!, layers[index + 1]!];
    const isLast = index + 2 === layers.length;
    const outputs = bias.map((shift, column) =>
      x.reduce((sum, value, row) => sum + value * weight[row * bias.length + column]!, shift),
    );
    activations.push(isLast && !endsInRelu ? outputs : outputs.map((value) => Math.max(0, value)));
  }
  return activations;
}

function meanLoss(layers: Layers, rows: Numbers[], labels: Numbers): number {
  const losses = rows.map((row, index) => {
    const logit = forward(layers, row, false).at(-1)![0]!;
    return Math.log1p(Math.exp(logit)) - labels[index]! * logit;
  });
  return losses.reduce((sum, loss) => sum + loss, 0) / rows.length;
}

/** One step of gradient descent on the mean loss, with the gradient by back-propagation. */
function innerStep(layers: Layers, rows: Numbers[], labels: Numbers, rate: number): Layers {
  const moved = layers.map((values) => [...values]);
  for (const [index, row] of rows.entries()) {
    const activations = forward(layers, row, false);
    let upstream = [(1 / (1 + Math.exp(-activations.at(-1)![0]!)) - labels[index]!) / rows.length];
    for (let layer = layers.length - 2; layer >= 0; layer -= 2) {
      const x = activations[layer / 2]!;
      const [width, weight] = [upstream.length, layers[layer]!];
      for (const [column, error] of upstream.entries()) {
        moved[layer + 1]![column]! -= rate * error;
        for (const [place, value] of x.entries())
          moved[layer]![place * width + column]! -= rate * error * value;
      }
      upstream = x.map((value, place) =>
        value > 0
          ? upstream.reduce(
              (sum, error, column) => sum + error * weight[place * width + column]!,
              0,
            )
          : 0,
      );
    }
  }
  return moved;
}

interface Task {
  readonly support: Numbers[];
  readonly supportLabels: Numbers;
  readonly query: Numbers[];
  readonly queryLabels: Numbers;
}

/** The change that the step makes to each layer and to the table. */
function exactUpdate(arrays: WorkloadArrays, cell: Cell): { layers: Numbers[]; table: Numbers } {
  const { description } = arrays;
  const { taskCount, rowsPerTask, widths, trunkLayerCount, table } =
    description.workloads[cell.workload];
  const read = (name: string): Numbers => [...arrays.floats(`${cell.workload}.${name}`)];
  const start = layerNames(widths).map(read);
  const rows = table === null ? [] : read('table');
  const variables = [...start, rows];
  const cut = 2 * trunkLayerCount;
  const rowsOf = (role: string, task: number, values: Numbers): Numbers[] => {
    const from = task * rowsPerTask;
    if (table === null) {
      const all = read(`batch0.${role}Inputs`);
      const width = widths[0]!;
      return Array.from({ length: rowsPerTask }, (_, row) =>
        all.slice((from + row) * width, (from + row + 1) * width),
      );
    }
    const ids = [...arrays.integers(`${cell.workload}.batch0.${role}Ids`)];
    return Array.from({ length: rowsPerTask }, (_, row) =>
      ids
        .slice((from + row) * table.fieldCount, (from + row + 1) * table.fieldCount)
        .flatMap((id) => values.slice(id * table.width, (id + 1) * table.width)),
    );
  };
  const labelsOf = (role: string, task: number): Numbers =>
    read(`batch0.${role}Labels`).slice(task * rowsPerTask, (task + 1) * rowsPerTask);
  const featuresOf = (own: Numbers[], role: string, task: number): Numbers[] =>
    rowsOf(role, task, own.at(-1)!).map((row) => forward(own.slice(0, cut), row, true).at(-1)!);
  const taskOf = (inside: Numbers[], own: Numbers[], task: number): Task => ({
    support: featuresOf(inside, 'support', task),
    supportLabels: labelsOf('support', task),
    query: featuresOf(own, 'query', task),
    queryLabels: labelsOf('query', task),
  });
  const adapt = (head: Layers, { support, supportLabels }: Task): Layers => {
    let phi = head;
    for (let step = 0; step < cell.innerSteps; step += 1)
      phi = innerStep(phi, support, supportLabels, description.innerRate);
    return phi;
  };
  // First order: the change made by the inner loop counts as a constant added to theta.
  const moves = Array.from({ length: taskCount }, (_, index) => {
    const head = start.slice(cut);
    const phi = adapt(head, taskOf(variables, variables, index));
    return phi.map((values, layer) => values.map((value, at) => value - head[layer]![at]!));
  });
  const total = (own: Numbers[]): number => {
    let sum = 0;
    for (let index = 0; index < taskCount; index += 1) {
      const head = own.slice(cut, -1);
      const task = taskOf(cell.order === 'second' ? own : variables, own, index);
      const phi =
        cell.order === 'second'
          ? adapt(head, task)
          : head.map((values, layer) =>
              values.map((value, at) => value + moves[index]![layer]![at]!),
            );
      sum += meanLoss(phi, task.query, task.queryLabels);
    }
    return sum;
  };
  const rate = description.metaRate / taskCount;
  const updates = variables.map((values, which) =>
    values.map((value, at) => {
      const shifted = (by: number): number =>
        total(variables.map((own, index) => (index === which ? own.with(at, value + by) : own)));
      return (-rate * (shifted(1e-5) - shifted(-1e-5))) / 2e-5;
    }),
  );
  return { layers: updates.slice(0, -1), table: updates.at(-1)! };
}

describe('meta steps of the inner-loop benchmark', () => {
  let engine: Engine;
  let folder: string;
  let arrays: WorkloadArrays;
  beforeAll(async () => {
    engine = await loadEngine('auto', () => undefined);
    folder = mkdtempSync(join(tmpdir(), 'qianmo-small-workloads-'));
    writeWorkloads(folder, SMALL, 2, 7);
    arrays = readWorkloads(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each(CELLS.map((cell) => ({ name: cellName(cell), cell })))(
    '$name equals float64 in every variant',
    ({ cell }) => {
      const exact = exactUpdate(arrays, cell);
      const names = layerNames(SMALL[cell.workload].widths);
      for (const variant of OUR_VARIANTS) {
        const step = createOurMetaStep(engine, arrays, cell, variant);
        step.run(0);
        for (const [index, values] of step.layers().entries()) {
          const before = arrays.floats(`${cell.workload}.${names[index]!}`);
          const error = updateError(before, values, Float64Array.from(exact.layers[index]!));
          expect(error, `${variant} ${names[index]!}`).toBeLessThan(1e-5);
        }
        if (step.table !== null) {
          const before = arrays.floats(`${cell.workload}.table`);
          const error = updateError(before, step.table(), Float64Array.from(exact.table));
          expect(error, `${variant} table`).toBeLessThan(1e-5);
        }
        step.dispose();
      }
    },
  );
});
