/**
 * Tasks per second of gradient and predict jobs of a realistic shape, in this process. Every job
 * runs once, which creates the graphs of its shapes, and then all of them run again with warm
 * graphs. Times are processor time, since the machine is shared. Build, then
 *
 *   TF_ENABLE_ONEDNN_OPTS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=-1 OMP_NUM_THREADS=1 \
 *     node dist/test/bench/compute-bench.js [part of a cell's name]
 *
 * It also runs on other commits: copy this file into a checkout of one. The last commit before
 * graphs were captured is a8ce876.
 */

import type { JobInput } from '../../shared/queue/job-executor.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import { type CaseWork, jobCaseOf, jobInputOf } from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';

const TASKS_PER_JOB = 16;
const JOB_COUNT = 24;
const WARM_ROUND_COUNT = 3;

const categoryRowCounts = [20000, 20000, 5000, 2000, 1000, 500, 100, 50, 20, 10];
const taskCount = TASKS_PER_JOB * JOB_COUNT;
const storeOf = (supportRowCountMax: number, queryRowCountMax: number) =>
  tinyTaskStore({
    taskCount,
    supportRowCountMax,
    queryRowCountMax,
    categoryRowCounts,
    numberCount: 0,
  });
const stores = { large: storeOf(128, 256), small: storeOf(24, 24) };

const taskWeights = Array.from({ length: TASKS_PER_JOB }, () => 1 / TASKS_PER_JOB);
const fomaml: CaseWork = {
  kind: 'gradient',
  method: methodOf({ kind: 'fomaml', innerSteps: 3, innerRate: 0.1 }),
  taskWeights,
};
const withColdTerm: CaseWork = {
  kind: 'gradient',
  method: methodOf({ kind: 'fomaml', innerSteps: 3, innerRate: 0.1, coldShare: 0.5 }),
  taskWeights,
  coldTaskWeights: taskWeights,
};
const global: CaseWork = { kind: 'gradient', method: { kind: 'global' }, taskWeights };
const grid: CaseWork = {
  kind: 'predict',
  method: { kind: 'global' },
  adaptations: [0.01, 0.03, 0.1, 0.3, 1].flatMap((innerRate) =>
    [1, 2, 5, 10, 20].map((innerSteps) => ({ innerRate, innerSteps })),
  ),
  rows: 'query',
};
const deep = { adgroupEmbedding: true, personal: ['bias', 'layer1', 'output', 'adgroupEmbedding'] };
const [, , wanted = ''] = process.argv;
const cells: [string, unknown, CaseWork][] = [
  ['fomaml, bias', { personal: ['bias'] }, fomaml],
  ['fomaml, bias + output', { personal: ['bias', 'output'] }, fomaml],
  ['fomaml, bias + layer1 + output + adgroupEmbedding', deep, fomaml],
  ['fomaml, bias + output, cold share 0.5', { personal: ['bias', 'output'] }, withColdTerm],
  ['global', { personal: ['bias'] }, global],
  ['predict 5 rates, 20 steps, bias + output', { personal: ['bias', 'output'] }, grid],
];

for (const [size, store] of Object.entries(stores)) {
  const executor = await createExecutor({ openStore: () => Promise.resolve(store) });
  /** Processor time of the jobs. */
  const run = async (inputs: readonly JobInput[]): Promise<number> => {
    const before = process.cpuUsage();
    for (const input of inputs) await executor.execute(input);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  };
  console.log(`${size} tasks, ${TASKS_PER_JOB} per job; ${executor.backend}`);
  for (const [name, model, work] of cells.filter(([cell]) => cell.includes(wanted))) {
    const jobCase = jobCaseOf(store, model);
    const inputs: JobInput[] = [];
    for (let first = 0; first < taskCount; first += TASKS_PER_JOB) {
      const indices = Array.from({ length: TASKS_PER_JOB }, (_, place) => first + place);
      inputs.push(await jobInputOf(jobCase, indices, work));
    }
    const firstMs = await run(inputs);
    const rounds: number[] = [];
    for (let round = 0; round < WARM_ROUND_COUNT; round += 1) rounds.push(await run(inputs));
    const warmMs = Math.min(...rounds);
    const perSecond = Math.round((1000 * taskCount) / warmMs);
    console.log(
      `  ${name}: ${perSecond} tasks/s, ${(warmMs / JOB_COUNT).toFixed(1)} ms per job; ` +
        `the first ${JOB_COUNT} jobs took ${(firstMs - warmMs).toFixed(0)} ms more`,
    );
  }
  await executor.close();
}
