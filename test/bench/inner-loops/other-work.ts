/**
 * Other work of the engine besides W1 and W2, in a separate process: jobs of the project's models,
 * a generator's step, the adaptation of 10,000 adgroups, and profiles of the cells' graphs. Prints
 * JSON lines.
 *
 *   node dist/test/bench/inner-loops/other-work.js FOLDER_OF_WORKLOADS
 */

import { systemClock } from '../../../shared/base/clock.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../../worker/compute/job/create-executor.js';
import type { Engine } from '../../../worker/compute/engine/load-engine.js';
import { type CaseWork, jobCaseOf, jobInputOf } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { ADGROUP_COUNT, createAdaptation } from './sides/adapt-adgroups.js';
import { cellName, CELLS } from './sides/cells.js';
import { createGeneratorStep } from './sides/generator-step.js';
import type { ProfileResult, WorkResult } from './other-results.js';
import { createOurMetaStep } from './sides/our-meta-step.js';
import { profileByOp, profileGraph } from './profile-graph.js';
import { median } from '../../../shared/base/arrays.js';
import { timeRepeatedly } from './sides/time-repeatedly.js';
import { readWorkloads, type WorkloadArrays } from './sides/workload-data.js';

const TASKS_PER_JOB = 16;
const RUN_MS = 2_000;
const JOB_COUNT_MIN = 5;
const LARGEST_COUNT = 8;
const [, , folder = '', part = 'all'] = process.argv;

function send(result: WorkResult | ProfileResult): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

const STORES: readonly { name: string; model: unknown; store: TaskStore }[] = [
  {
    name: 'DeepFM, ten categories',
    model: { personal: ['bias', 'output'] },
    store: tinyTaskStore({
      taskCount: TASKS_PER_JOB,
      supportRowCountMax: 128,
      queryRowCountMax: 256,
      categoryRowCounts: [20000, 20000, 5000, 2000, 1000, 500, 100, 50, 20, 10],
      numberCount: 0,
    }),
  },
  {
    name: 'MovieLens example',
    model: {
      ...{ kind: 'deepfm', embeddingWidth: 8, hiddenWidths: [32, 16], adgroupEmbedding: true },
      personal: ['bias', 'adgroupEmbedding', 'output'],
    },
    store: tinyTaskStore({
      taskCount: TASKS_PER_JOB,
      supportRowCountMax: 128,
      queryRowCountMax: 256,
      categoryRowCounts: [600, 12, 25],
      bags: [{ rowCount: 20, lengthMax: 8 }],
      numberCount: 1,
    }),
  },
];

async function projectJobs(): Promise<void> {
  for (const { name, model, store } of STORES) {
    const executor = await createExecutor({ openStore: () => Promise.resolve(store) });
    for (const kind of ['fomaml', 'maml'] as const)
      for (const innerSteps of [1, 5]) {
        const taskWeights = store.tasks.map(() => 1 / TASKS_PER_JOB);
        const method = methodOf({ kind, innerSteps, innerRate: 0.1 });
        const work: CaseWork = { kind: 'gradient', method, taskWeights };
        send(
          await timedJobs(executor, `${name}, ${kind}, ${innerSteps} steps`, store, model, work),
        );
      }
    await executor.close();
  }
}

async function timedJobs(
  executor: LocalExecutor,
  name: string,
  store: TaskStore,
  model: unknown,
  work: CaseWork,
): Promise<WorkResult> {
  const indices = store.tasks.map(({ taskIndex }) => taskIndex);
  const input = await jobInputOf(jobCaseOf(store, model), indices, work);
  const times: number[] = [];
  const startMs = systemClock.monotonicMs();
  await executor.execute(input);
  const firstMs = systemClock.monotonicMs() - startMs;
  while (times.length < JOB_COUNT_MIN || systemClock.monotonicMs() - startMs < RUN_MS) {
    const beforeMs = systemClock.monotonicMs();
    await executor.execute(input);
    times.push(systemClock.monotonicMs() - beforeMs);
  }
  return workResult(name, TASKS_PER_JOB, median(times), firstMs);
}

function workResult(
  name: string,
  taskCount: number,
  medianMs: number,
  firstMs: number,
): WorkResult {
  const residentMiB = Math.round(process.memoryUsage.rss() / 2 ** 20);
  return {
    ...{ kind: 'work', name, medianMs, firstMs, residentMiB },
    tasksPerSecond: (1000 * taskCount) / medianMs,
  };
}

function generatorWork(engine: Engine): WorkResult {
  const step = createGeneratorStep(engine);
  const startMs = systemClock.monotonicMs();
  step.run();
  const firstMs = systemClock.monotonicMs() - startMs;
  const { medianMs } = timeRepeatedly(RUN_MS, step.run);
  step.dispose();
  return workResult('generator step, cold and warm', step.taskCount, medianMs, firstMs);
}

function exportWork(engine: Engine, arrays: WorkloadArrays, innerSteps: number): WorkResult {
  const startMs = systemClock.monotonicMs();
  const adaptation = createAdaptation(engine, arrays, innerSteps);
  const firstMs = systemClock.monotonicMs() - startMs;
  const times: number[] = [];
  let blockCount = 0;
  for (let repeat = 0; repeat < 3; repeat += 1) {
    const beforeMs = systemClock.monotonicMs();
    adaptation.run((blocks) => {
      blockCount += blocks.length;
    });
    times.push(systemClock.monotonicMs() - beforeMs);
  }
  adaptation.dispose();
  if (blockCount === 0) throw new Error('nothing was adapted');
  const name = `10,000 adgroups adapted and read back, ${innerSteps} steps`;
  return workResult(name, ADGROUP_COUNT, median(times), firstMs);
}

function profiles(engine: Engine, arrays: WorkloadArrays): void {
  for (const cell of CELLS) {
    const step = createOurMetaStep(engine, arrays, cell, 'rewritten');
    const found = step.graphFor(0);
    if (found !== null) {
      const profile = profileGraph(engine, found.graph, found.feeds);
      const { nodeCount, recordedNodeCount, recordMs, rewriteMs, loadMs } = found.statistics;
      send({
        ...{ kind: 'profile', cell: cellName(cell), nodeCount, recordedNodeCount },
        captureMs: recordMs + rewriteMs + loadMs,
        totalMs: profile.totalMs,
        byOp: profileByOp(profile),
        largest: profile.lines
          .slice(0, LARGEST_COUNT)
          .map(({ operation, count, medianMs, share, gflops }) => ({
            ...{ operation, count, medianMs, share, gflops },
          })),
      });
    }
    step.dispose();
  }
}

const arrays = readWorkloads(folder);
const { engine, close } = await createExecutor({
  openStore: () => Promise.reject(new Error('no job here has a store')),
  backend: 'tensorflow',
});
if (part === 'all' || part === 'jobs') await projectJobs();
if (part === 'all' || part === 'generator') send(generatorWork(engine));
if (part === 'all' || part === 'export')
  for (const innerSteps of [1, 5]) send(exportWork(engine, arrays, innerSteps));
if (part === 'all' || part === 'profiles') profiles(engine, arrays);
await close();
process.exit(0);
