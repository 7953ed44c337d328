/**
 * Tasks per second of gradient and predict jobs of a realistic shape, in this process. Build, then
 *
 *   TF_ENABLE_ONEDNN_OPTS=1 TF_NUM_INTRAOP_THREADS=1 OMP_NUM_THREADS=1 \
 *     node dist/test/bench/compute-bench.js
 */

import { systemClock } from '../../shared/clock.js';
import type { JobWork } from '../../shared/protocol.js';
import { createExecutor } from '../../worker/compute/create-executor.js';
import { jobCaseOf, jobInputOf } from '../fixtures/compute-inputs.js';
import { tinyTaskStore } from '../fixtures/tiny-task-store.js';

const TASKS_PER_JOB = 16;
const JOB_COUNT = 12;
const store = tinyTaskStore({
  taskCount: TASKS_PER_JOB,
  supportRowCountMax: 128,
  queryRowCountMax: 256,
  categoryRowCounts: [20000, 20000, 5000, 2000, 1000, 500, 100, 50, 20, 10],
  numberCount: 0,
});
const indices = store.tasks.map(({ taskIndex }) => taskIndex);
const taskWeights = indices.map(() => 1 / TASKS_PER_JOB);
const fomaml: JobWork = {
  kind: 'gradient',
  method: { kind: 'fomaml', innerSteps: 3, innerRate: 0.1, coldShare: 0 },
  taskWeights,
};
const rates = [0.01, 0.03, 0.1, 0.3, 1];
const grid: JobWork = {
  kind: 'predict',
  adaptations: rates.flatMap((innerRate) =>
    [1, 2, 5, 10, 20].map((innerSteps) => ({ innerRate, innerSteps })),
  ),
  rows: 'query',
};
const embedded = { adgroupEmbedding: true };
const rows: [string, unknown, JobWork][] = [
  ['fomaml, bias', { personal: ['bias'] }, fomaml],
  ['fomaml, bias + output', { personal: ['bias', 'output'] }, fomaml],
  [
    'fomaml, bias + layer1 + output + adgroupEmbedding',
    { ...embedded, personal: ['bias', 'layer1', 'output', 'adgroupEmbedding'] },
    fomaml,
  ],
  ['global', { personal: ['bias'] }, { kind: 'gradient', method: { kind: 'global' }, taskWeights }],
  ['predict 5 rates, 20 steps, bias + output', { personal: ['bias', 'output'] }, grid],
];

const executor = await createExecutor({ openStore: () => Promise.resolve(store) });
console.log(`${executor.backend}; ${TASKS_PER_JOB} tasks a job`);
for (const [name, model, work] of rows) {
  const input = await jobInputOf(jobCaseOf(store, model), indices, work);
  for (let warm = 0; warm < 3; warm += 1) await executor.execute(input);
  const times: number[] = [];
  for (let job = 0; job < JOB_COUNT; job += 1) {
    const startMs = systemClock.monotonicMs();
    await executor.execute(input);
    times.push(systemClock.monotonicMs() - startMs);
  }
  const medianMs = times.sort((a, b) => a - b)[JOB_COUNT >> 1] ?? 0;
  const perSecond = Math.round((1000 * TASKS_PER_JOB) / medianMs);
  console.log(`${name}: ${medianMs.toFixed(1)} ms a job, ${perSecond} tasks/s`);
}
await executor.close();
