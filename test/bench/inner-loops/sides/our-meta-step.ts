/**
 * One whole meta step of a workload on our side. Batches stay on the device, and layers are passed
 * from step to step as tensors. From the embedding table a step takes the rows it touches, and it
 * returns their change.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { capture } from '../../../../worker/compute/engine/capture/capture.js';
import type { TensorStructure } from '../../../../worker/compute/engine/capture/record-graph.js';
import type { Engine } from '../../../../worker/compute/engine/load-engine.js';
import { cellName, type Cell } from './cells.js';
import { createGrouping, createRowTable, type Occurrences } from './row-table.js';
import type { WorkloadArrays, WorkloadShape } from './workload-data.js';
import { taskLosses } from '../../../../worker/compute/meta-gradients/passes.js';

type Tensor = tfjs.Tensor;

/** Alternating weights and biases, from the first layer up: `[in, out]`, `[1, out]`, ... */
type Layers = readonly Tensor[];

interface StepTerms {
  readonly engine: Engine;
  readonly shape: WorkloadShape;
  readonly cell: Cell;
  readonly innerRate: number;
  /** Already divided by the number of tasks. */
  readonly metaRate: number;
}

// Types instead of interfaces, because only types are accepted as records of tensors.
type DenseInput = {
  /** `[taskCount, rowsPerTask, width]` */
  readonly supportInputs: Tensor;
  /** `[taskCount, rowsPerTask]` */
  readonly supportLabels: Tensor;
  readonly queryInputs: Tensor;
  readonly queryLabels: Tensor;
  readonly layers: Layers;
};

type TableInput = {
  /** A table row for each row of the task and field, `[.., tableWidth]`. */
  readonly supportRows: Tensor;
  readonly queryRows: Tensor;
  /** `[taskCount, rowsPerTask]` */
  readonly supportLabels: Tensor;
  readonly queryLabels: Tensor;
  readonly layers: Layers;
  /** Changes of the layers, summed over the earlier micro-batches. */
  readonly layerChanges: Layers;
};

type TableChanges = {
  /** The amounts to subtract from the query rows and, in second order, from the support rows. */
  readonly rows: readonly Tensor[];
  /** The amounts to subtract from the layers, including this micro-batch. */
  readonly layers: Layers;
};

/** W1: everything is adapted. Returns the layers after the step. */
function denseMetaStep(terms: StepTerms): (input: DenseInput) => Layers {
  return ({ supportInputs, supportLabels, queryInputs, queryLabels, layers }) => {
    const moved = metaGradient(terms, layers, {
      supportLabels,
      queryLabels,
      supportFeatures: () => supportInputs,
      queryFeatures: () => queryInputs,
      shared: [],
    });
    return stepped(terms.engine, layers, moved);
  };
}

/** W2: rows and first layers are trunk. */
function tableMetaStep(terms: StepTerms): (input: TableInput) => TableChanges {
  const { tf } = terms.engine;
  const { shape, cell } = terms;
  const trunkSize = 2 * shape.trunkLayerCount;
  return ({ supportRows, queryRows, supportLabels, queryLabels, layers, layerChanges }) => {
    // Rows that only feed support features have no gradient in first order.
    const tableRows = cell.order === 'first' ? [queryRows] : [queryRows, supportRows];
    const moved = metaGradient(terms, layers.slice(trunkSize), {
      supportLabels,
      queryLabels,
      supportFeatures: (shared) =>
        trunkFeatures(
          terms,
          cell.order === 'first' ? supportRows : (shared[1] as Tensor),
          shared.slice(tableRows.length),
        ),
      queryFeatures: (shared) =>
        trunkFeatures(terms, shared[0] as Tensor, shared.slice(tableRows.length)),
      shared: [...tableRows, ...layers.slice(0, trunkSize)],
    });
    return {
      rows: moved.slice(0, tableRows.length),
      layers: moved
        .slice(tableRows.length)
        .map((change, index) => tf.add(layerChanges[index] as Tensor, change)),
    };
  };
}

interface Problem {
  readonly supportLabels: Tensor;
  readonly queryLabels: Tensor;
  /** The inputs of the adapted layers, `[taskCount, rowsPerTask, width]`, from the shared tensors. */
  readonly supportFeatures: (shared: readonly Tensor[]) => Tensor;
  readonly queryFeatures: (shared: readonly Tensor[]) => Tensor;
  readonly shared: readonly Tensor[];
}

/** metaRate times the meta-gradient with respect to the shared tensors and then the adapted layers. */
function metaGradient(terms: StepTerms, personal: Layers, problem: Problem): Tensor[] {
  const { engine, shape, cell, metaRate } = terms;
  const { tf } = engine;
  const { shared } = problem;
  const rates = tf.fill<tfjs.Rank.R1>([shape.taskCount], metaRate);
  const query = lossesOn(terms, problem.queryLabels);
  const adapt = adaptationOn(terms, problem.supportLabels);
  const repeated = (blocks: Layers): Tensor[] =>
    blocks.map((block) => repeatByTask(engine, block, shape.taskCount));
  if (cell.order === 'first') {
    const phi = adapt(problem.supportFeatures(shared), repeated(personal));
    const { grads } = tf.valueAndGrads((...tensors: Tensor[]) =>
      query(problem.queryFeatures(tensors.slice(0, shared.length)), tensors.slice(shared.length)),
    )([...shared, ...phi], rates);
    return grads.map((gradient, index) => (index < shared.length ? gradient : tf.sum(gradient, 0)));
  }
  const { grads } = tf.valueAndGrads((...tensors: Tensor[]) => {
    const own = tensors.slice(0, shared.length);
    const start = repeated(tensors.slice(shared.length));
    return query(problem.queryFeatures(own), adapt(problem.supportFeatures(own), start));
  })([...shared, ...personal], rates);
  return grads;
}

/** The inner loop on given labels, starting from blocks of `[taskCount, in, out]`. */
function adaptationOn(
  terms: StepTerms,
  supportLabels: Tensor,
): (features: Tensor, start: Layers) => Layers {
  const { engine, shape, cell, innerRate } = terms;
  const { tf } = engine;
  const rates = tf.fill<tfjs.Rank.R1>([shape.taskCount], innerRate);
  const losses = lossesOn(terms, supportLabels);
  return (features, start) => {
    let phi = start;
    for (let step = 0; step < cell.innerSteps; step += 1) {
      const { grads } = tf.valueAndGrads((...blocks: Tensor[]) => losses(features, blocks))(
        [...phi],
        rates,
      );
      phi = stepped(engine, phi, grads);
    }
    return phi;
  };
}

/** Mean cross entropy of each task, `[taskCount]`, on labels `[taskCount, rowsPerTask]`. */
function lossesOn(
  { engine, shape }: StepTerms,
  labels: Tensor,
): (features: Tensor, blocks: Layers) => tfjs.Tensor1D {
  const { tf } = engine;
  const { taskCount, rowsPerTask } = shape;
  // Created here, not in the function below: a tape disposes of tensors created while it runs.
  const shares = tf.fill<tfjs.Rank.R2>([taskCount, rowsPerTask], 1 / rowsPerTask);
  const clickShares = tf.mul<tfjs.Tensor2D>(labels, 1 / rowsPerTask);
  return (features, blocks) => {
    const outputs = denseLayers(engine, features, blocks, false);
    const logits = tf.reshape<tfjs.Rank.R2>(outputs, [taskCount, rowsPerTask]);
    return taskLosses(engine, logits, { impressionShares: shares, clickShares });
  };
}

/** Table rows after the first layers: `[taskCount, rowsPerTask, width]`. */
function trunkFeatures({ engine, shape }: StepTerms, rows: Tensor, weights: Layers): Tensor {
  const { tf } = engine;
  const { taskCount, rowsPerTask, widths, trunkLayerCount } = shape;
  const inputs = tf.reshape(rows, [taskCount * rowsPerTask, widths[0] ?? 0]);
  const hidden = denseLayers(engine, inputs, weights, true);
  return tf.reshape(hidden, [taskCount, rowsPerTask, widths[trunkLayerCount] ?? 0]);
}

function denseLayers(
  { tf, kernels }: Engine,
  inputs: Tensor,
  layers: Layers,
  endsInRelu: boolean,
): Tensor {
  let x = inputs;
  for (let index = 0; index < layers.length; index += 2) {
    // Weights and biases come in pairs.
    x = tf.add(tf.matMul(x, layers[index] as Tensor), layers[index + 1] as Tensor);
    if (endsInRelu || index + 2 < layers.length) x = kernels.relu(x);
  }
  return x;
}

/** A shared block repeated per task, `[taskCount, in, out]`; its gradient is one sum over tasks. */
function repeatByTask({ tf }: Engine, block: Tensor, taskCount: number): Tensor {
  return tf.customGrad((input) => ({
    value: tf.tile(tf.expandDims(input as Tensor, 0), [taskCount, 1, 1]),
    gradFunc: (dy) => tf.sum(dy, 0),
  }))(block);
}

function stepped({ tf }: Engine, layers: Layers, changes: readonly Tensor[]): Tensor[] {
  return layers.map((layer, index) => {
    const change = changes[index];
    if (change === undefined) throw new Error('a layer has no gradient');
    return tf.sub(layer, change);
  });
}

interface OurMetaStep {
  /** Performs a meta step on a batch. */
  readonly run: (batchIndex: number) => void;
  /** The current layers, alternating weights and biases. */
  readonly layers: () => Float32Array[];
  /** The current table; null without one. */
  readonly table: (() => Float32Array) | null;
  readonly dispose: () => void;
}

/** 64 tasks of W2: the activations of a layer take a megabyte. */
const MICRO_BATCHES_MIN = 4;
const SHAPE_COUNT_MAX = 8;

export function createOurMetaStep(engine: Engine, arrays: WorkloadArrays, cell: Cell): OurMetaStep {
  const { description } = arrays;
  const shape = description.workloads[cell.workload];
  const terms: StepTerms = {
    ...{ engine, shape, cell },
    innerRate: description.innerRate,
    metaRate: description.metaRate / shape.taskCount,
  };
  return shape.table === null ? denseStep(terms, arrays) : tableStep(terms, arrays, shape.table);
}

function denseStep(terms: StepTerms, arrays: WorkloadArrays): OurMetaStep {
  const { engine } = terms;
  const batches = batchesOf(terms, arrays, (name, rowShape) =>
    engine.tf.tensor(arrays.floats(`${name}Inputs`), rowShape),
  );
  let layers = initialLayers(terms, arrays);
  const step = captured(terms, denseMetaStep(terms));
  const inputOf = (batchIndex: number): DenseInput => {
    const { support, query, supportLabels, queryLabels } = at(batches, batchIndex);
    return { supportInputs: support, queryInputs: query, supportLabels, queryLabels, layers };
  };
  return {
    run: (batchIndex) => {
      const next = step.run(inputOf(batchIndex));
      engine.tf.dispose([...layers]);
      layers = next;
    },
    layers: () => layers.map((layer) => layer.dataSync<'float32'>()),
    table: null,
    dispose: () => step.dispose(),
  };
}

/**
 * Tasks are processed in micro-batches small enough for the caches. Rows are gathered for all of
 * them at once, while nothing else needs the cache. Changes are summed over micro-batches and
 * subtracted once, when all gradients are complete.
 */
function tableStep(
  whole: StepTerms,
  arrays: WorkloadArrays,
  { rowCount, width }: { readonly rowCount: number; readonly width: number },
): OurMetaStep {
  const { engine, cell } = whole;
  const { tf } = engine;
  const taskCount = microBatchTasks(whole.shape.taskCount);
  const count = whole.shape.taskCount / taskCount;
  const terms: StepTerms = { ...whole, shape: { ...whole.shape, taskCount } };
  const table = createRowTable(engine, arrays.floats(`${cell.workload}.table`), width);
  const batches = batchesOf(whole, arrays, (name) => arrays.integers(`${name}Ids`));
  const labels = batches.map(({ supportLabels, queryLabels }) => ({
    support: tf.split(supportLabels, count),
    query: tf.split(queryLabels, count),
  }));
  const grouping = createGrouping(rowCount);
  let layers = initialLayers(whole, arrays);
  const noChanges = layers.map((layer) => tf.zerosLike(layer));
  const step = captured(terms, tableMetaStep(terms));
  const prepared = (batchIndex: number): Prepared => {
    const { support, query } = at(batches, batchIndex);
    // Rows that only support rows touch do not change in first order: they are only read.
    const isFirstOrder = cell.order === 'first';
    const changed = grouping(isFirstOrder ? [query] : [query, support]);
    const changedRows = table.gather(changed.ids);
    const occurring = tf.tidy(() =>
      tf.split(
        engine.kernels.gatherRows(changedRows, tf.tensor1d(changed.places, 'int32')),
        isFirstOrder ? count : 2 * count,
      ),
    );
    const supportRows = isFirstOrder
      ? tf.tidy(() => tf.split(table.gather(support), count))
      : occurring.slice(count);
    const ownLabels = at(labels, batchIndex);
    return {
      changed,
      changedRows,
      inputs: supportRows.map((rows, index) => ({
        supportRows: rows,
        queryRows: at(occurring, index),
        supportLabels: at(ownLabels.support, index),
        queryLabels: at(ownLabels.query, index),
        layers,
      })),
    };
  };
  return {
    run: (batchIndex) => {
      const { inputs, changed, changedRows } = prepared(batchIndex);
      let layerChanges: Layers = noChanges;
      const rowChanges: (readonly tfjs.Tensor[])[] = [];
      for (const input of inputs) {
        const changes = step.run({ ...input, layerChanges });
        rowChanges.push(changes.rows);
        tf.dispose([input.queryRows, input.supportRows]);
        if (layerChanges !== noChanges) tf.dispose([...layerChanges]);
        layerChanges = changes.layers;
      }
      // All query rows, then all support rows, in the order of their ids.
      const byRole = [0, 1].flatMap((role) => rowChanges.flatMap((rows) => rows[role] ?? []));
      table.subtract(changed, changedRows, byRole);
      const next = stepped(engine, layers, layerChanges);
      tf.dispose([...byRole, ...layerChanges, ...layers, changedRows]);
      layers = next;
    },
    layers: () => layers.map((layer) => layer.dataSync<'float32'>()),
    table: table.values,
    dispose: () => {
      step.dispose();
      table.dispose();
    },
  };
}

interface Prepared {
  /** One for each micro-batch; the caller disposes of their rows. */
  readonly inputs: readonly Omit<TableInput, 'layerChanges'>[];
  readonly changed: Occurrences;
  /** The rows of `changed.ids` before the step. */
  readonly changedRows: tfjs.Tensor2D;
}

/** The largest task count that divides the tasks evenly into eight or more micro-batches. */
function microBatchTasks(taskCount: number): number {
  let count = Math.max(1, Math.floor(taskCount / MICRO_BATCHES_MIN));
  while (taskCount % count !== 0) count -= 1;
  return count;
}

function captured<In extends TensorStructure, Out extends TensorStructure>(
  { engine, cell }: StepTerms,
  compute: (input: In) => Out,
) {
  return capture(engine, compute, {
    name: cellName(cell),
    graphCountMax: SHAPE_COUNT_MAX,
  });
}

interface Batch<Features> {
  readonly support: Features;
  readonly query: Features;
  readonly supportLabels: tfjs.Tensor;
  readonly queryLabels: tfjs.Tensor;
}

function batchesOf<Features>(
  { engine, shape, cell }: StepTerms,
  arrays: WorkloadArrays,
  featuresOf: (name: string, rowShape: number[]) => Features,
): Batch<Features>[] {
  const { taskCount, rowsPerTask, widths } = shape;
  const rowShape = [taskCount, rowsPerTask, widths[0] ?? 0];
  return Array.from({ length: arrays.description.batchCount }, (_, batch) => {
    const prefix = `${cell.workload}.batch${batch}`;
    const labels = (role: string): tfjs.Tensor =>
      engine.tf.tensor2d(arrays.floats(`${prefix}.${role}Labels`), [taskCount, rowsPerTask]);
    return {
      support: featuresOf(`${prefix}.support`, rowShape),
      query: featuresOf(`${prefix}.query`, rowShape),
      supportLabels: labels('support'),
      queryLabels: labels('query'),
    };
  });
}

function initialLayers({ engine, shape, cell }: StepTerms, arrays: WorkloadArrays): Layers {
  const { tf } = engine;
  return shape.widths.slice(1).flatMap((outputs, layer) => {
    const inputs = shape.widths[layer] ?? 0;
    return [
      tf.tensor2d(arrays.floats(`${cell.workload}.weight${layer}`), [inputs, outputs]),
      tf.tensor2d(arrays.floats(`${cell.workload}.bias${layer}`), [1, outputs]),
    ];
  });
}

function at<Item>(items: readonly Item[], index: number): Item {
  const item = items[index % items.length];
  if (item === undefined) throw new Error('there are no batches');
  return item;
}
