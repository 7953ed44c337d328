/**
 * The rows and initial values of our run of W2 as the peers read them: tasks in the order of the store, the tables of
 * the ten features end to end as one.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PreparedRun } from '../../../coordinator/plan/prepared-run.js';
import { at } from '../../../shared/base/arrays.js';
import { writeTouchedRows } from '../inner-loops/sides/accuracy.js';
import type { MetaParameters } from '../../../shared/models/meta-parameters.js';
import {
  FULL_SIZE,
  readWorkloads,
  writeDescription,
  type WorkloadArrays,
} from '../inner-loops/sides/workload-data.js';

/** The names of our variables by those of the peers' layers. */
const OUR_NAMES = {
  ...{ weight0: 'layer0.weight', bias0: 'layer0.bias' },
  ...{ weight1: 'layer1.weight', bias1: 'layer1.bias' },
  ...{ weight2: 'output.weight', bias2: 'bias' },
};

/** The personal layers are the last two. */
const TRUNK_LAYER_COUNT = 1;

type Ids = readonly Int32Array[];

export async function writeW2ForPeers(
  folder: string,
  { config, store, spec }: Pick<PreparedRun, 'config' | 'store' | 'spec'>,
  initial: MetaParameters,
): Promise<WorkloadArrays> {
  mkdirSync(folder, { recursive: true });
  const arrays: Parameters<typeof writeDescription>[1]['arrays'] = {};
  const write = (name: string, shape: number[], values: Float32Array | Int32Array): void => {
    const file = `W2.${name}.bin`;
    writeFileSync(join(folder, file), values);
    const dtype = values instanceof Float32Array ? 'float32' : 'int32';
    arrays[`W2.${name}`] = { file, dtype, shape };
  };
  const { layers, table } = peerParameters(initial);
  for (const { name, shape, values } of layers) write(name, shape, values);
  const width = spec.tableRowWidth;
  write('table', [table.length / width, width], table);

  const starts = tableStarts(initial);
  const { tasksPerOuterStep: taskCount } = config.training;
  const batchCount = Math.floor(store.tasks.length / taskCount);
  let rowsPerTask = 0;
  for (let batch = 0; batch < batchCount; batch += 1) {
    const indices = Array.from({ length: taskCount }, (_, task) => batch * taskCount + task);
    const tasks = await store.readTasks(indices);
    rowsPerTask = at(tasks, 0).supportRowCount;
    const touched = new Set<number>();
    for (const role of ['support', 'query'] as const) {
      const [first, end] = role === 'support' ? [0, rowsPerTask] : [rowsPerTask, 2 * rowsPerTask];
      const ids = Int32Array.from(
        tasks.flatMap(({ categoryIds }) => idsOfRows(categoryIds, starts, first, end)),
      );
      for (const id of ids) touched.add(id);
      const labels = Float32Array.from(
        tasks.flatMap(({ clicks }) => [...clicks.slice(first, end)]),
      );
      write(`batch${batch}.${role}Ids`, [taskCount, rowsPerTask, starts.length], ids);
      write(`batch${batch}.${role}Labels`, [taskCount, rowsPerTask], labels);
    }
    const inOrder = Int32Array.from(touched).sort();
    write(`batch${batch}.touchedIds`, [inOrder.length], inOrder);
  }
  const { method, training } = config;
  if (method.kind !== 'fomaml' || training.optimizer.kind !== 'sgd')
    throw new Error('the peers compute first order, with plain steps');
  const widths = [starts.length * width, ...spec.options.hiddenWidths, 1];
  const shape = { rowCount: table.length / width, width, fieldCount: starts.length };
  writeDescription(folder, {
    ...{ innerRate: method.innerRate, metaRate: training.optimizer.rate, batchCount, arrays },
    workloads: {
      ...FULL_SIZE,
      W2: { taskCount, rowsPerTask, widths, trunkLayerCount: TRUNK_LAYER_COUNT, table: shape },
    },
  });
  return readWorkloads(folder);
}

/** Writes what a run has learned as a side writes its check. Returns how many other rows have changed. */
export function writeOurCheck(
  folder: string,
  arrays: WorkloadArrays,
  learned: MetaParameters,
): number {
  mkdirSync(folder, { recursive: true });
  const { layers, table } = peerParameters(learned);
  for (const { name, values } of layers) writeFileSync(join(folder, `${name}.bin`), values);
  const before = arrays.floats('W2.table');
  return writeTouchedRows(folder, arrays, { before, after: table }, 'W2');
}

function peerParameters({ dense, tables }: MetaParameters) {
  const layers = Object.entries(OUR_NAMES).map(([name, ours]) => {
    const tensor = dense.get(ours);
    if (tensor === undefined) throw new Error(`the model has no ${ours}`);
    return { name, shape: [...tensor.shape], values: tensor.values };
  });
  const all = [...tables.values()];
  const table = new Float32Array(all.reduce((sum, { values }) => sum + values.length, 0));
  let start = 0;
  for (const { values } of all) {
    table.set(values, start);
    start += values.length;
  }
  return { layers, table };
}

/** First row of each table within the one table. */
function tableStarts({ tables }: MetaParameters): number[] {
  let next = 0;
  return [...tables.values()].map(({ rowCount }) => {
    const start = next;
    next += rowCount;
    return start;
  });
}

function idsOfRows(
  categoryIds: Ids,
  starts: readonly number[],
  first: number,
  end: number,
): number[] {
  return Array.from({ length: end - first }, (_, row) =>
    categoryIds.map((ids, table) => at(ids, first + row) + at(starts, table)),
  ).flat();
}
