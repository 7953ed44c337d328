/**
 * A run with the jobs of workload W2, which the peers have too: 32 support and 32 query rows with ten
 * categories of Zipf-distributed values, an MLP 160-128-64-1 whose last two layers are personal, five inner steps.
 */

import { writeFileSync } from 'node:fs';
import { randomStream } from '../../../shared/base/random.js';

export interface W2Size {
  readonly taskCount: number;
  /** A tenth of the rows of the peers' one table. */
  readonly rowsPerTable: number;
  readonly tasksPerOuterStep: number;
}

export const FULL_W2: W2Size = {
  ...{ taskCount: 1_024, rowsPerTable: 100_000, tasksPerOuterStep: 256 },
};

const ROWS_PER_TASK = 64;
const FEATURE_COUNT = 10;
const ZIPF_EXPONENT = 1.2;

/** Writes the log. The label of a row is random: nothing can be learned from it. */
export function writeW2Log(path: string, { taskCount, rowsPerTable } = FULL_W2): void {
  const stream = randomStream(2, 'w2-log');
  const names = Array.from({ length: FEATURE_COUNT }, (_, index) => `c${index}`);
  const lines = [['task', 'time', 'label', ...names].join(',')];
  for (let task = 0; task < taskCount; task += 1)
    for (let row = 0; row < ROWS_PER_TASK; row += 1)
      lines.push(
        [task, row, stream.below(2), ...names.map(() => zipf(stream.uniform(), rowsPerTable))].join(
          ',',
        ),
      );
  writeFileSync(path, `${lines.join('\n')}\n`);
}

/** The inverse of the continuous distribution function of a Pareto, whose floor is close to Zipf. */
function zipf(uniform: number, rowsPerTable: number): number {
  return Math.floor((1 - uniform) ** (-1 / (ZIPF_EXPONENT - 1))) % rowsPerTable;
}

export function w2Run(log: string, store: string, outerSteps: number, size = FULL_W2) {
  const { rowsPerTable, tasksPerOuterStep } = size;
  const features = Array.from({ length: FEATURE_COUNT }, (_, index) => ({
    ...{ name: `c${index}`, kind: 'category', hashBuckets: rowsPerTable },
  }));
  const half = ROWS_PER_TASK / 2;
  return {
    ...{ run: 'w2', seed: 1, output: 'runs/w2' },
    data: {
      ...{ logs: log, store, task: 'task', label: { column: 'label' }, time: 'time', features },
      rowSplit: {
        ...{ by: 'time', supportShare: 0.5, supportRowsMin: half, queryRowsMin: half },
        ...{ supportRowsMax: half, queryRowsMax: half },
      },
      taskSplit: { by: 'hash', validationShare: 0, testShare: 0 },
    },
    model: {
      ...{ kind: 'mlp', embeddingWidth: 16, hiddenWidths: [128, 64], adgroupEmbedding: false },
      personal: ['layer1', 'output', 'bias'],
    },
    method: { kind: 'fomaml', innerSteps: 5, innerRate: 0.01 },
    training: {
      ...{ outerSteps, tasksPerOuterStep },
      ...{ optimizer: { kind: 'sgd', rate: 0.01 }, checkpointEveryOuterSteps: outerSteps },
    },
  };
}
