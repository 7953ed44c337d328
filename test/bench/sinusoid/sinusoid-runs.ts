/**
 * One arm with one seed: trained by the outer loop on an executor in this process, then tested by
 * predict jobs. Nothing of the computation is the benchmark's own.
 */

import {
  predictLogits,
  type PredictionContext,
} from '../../../coordinator/evaluation/predict-logits.js';
import { createInMemoryDispatcher } from '../../../coordinator/training/in-memory-dispatcher.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { systemClock } from '../../../shared/clock.js';
import { RunConfigSchema, type RunConfig } from '../../../shared/config/run-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { TaskSplit, TaskStore } from '../../../shared/tasks/task-store.js';
import { createExecutor } from '../../../worker/compute/create-executor.js';
import { FINETUNED, type SinusoidArm } from './sinusoid-arms.js';
import { sinusoidStore } from './sinusoid-tasks.js';

export const STEP_COUNTS = [0, 1, 5, 10];

/** Of the pre-trained network, which was trained for no rate: the best on validation tasks. */
const TUNED_RATES = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1];

const TASKS_PER_OUTER_STEP = 25;
const HELD_OUT_TASK_COUNT = 600;

export interface SinusoidOutcome {
  readonly arm: string;
  /** Mean squared error of each test task's query rows, by number of inner steps. */
  readonly errors: readonly (readonly number[])[];
}

export async function sinusoidOutcomes(
  arm: SinusoidArm,
  seed: number,
  outerSteps: number,
): Promise<SinusoidOutcome[]> {
  const store = sinusoidStore({
    seed,
    trainingTaskCount: outerSteps * TASKS_PER_OUTER_STEP,
    validationTaskCount: HELD_OUT_TASK_COUNT,
    testTaskCount: HELD_OUT_TASK_COUNT,
  });
  const config = configOf(arm, seed, outerSteps);
  const executor = await createExecutor({ openStore: () => Promise.resolve(store) });
  try {
    const common = {
      config,
      store,
      storeAddress: 'memory',
      spec: modelSpecOf(config.model, store.manifest.features, config.method),
      dispatcher: createInMemoryDispatcher({
        executor,
        clock: systemClock,
        attemptsMax: 1,
        sink: () => undefined,
      }),
      signal: new AbortController().signal,
    };
    const { state } = await train({
      ...common,
      runId: 'sinusoid',
      checkpoints: {
        write: () => Promise.resolve({ address: 'memory', digest: '' }),
        latest: () => Promise.resolve(null),
      },
      resume: false,
      clock: systemClock,
      sink: () => undefined,
    });
    let wave = 0;
    const context: PredictionContext = {
      ...common,
      runId: 'sinusoid-test',
      nextWave: () => (wave += 1),
      onTasksDone: () => undefined,
      onBackend: () => undefined,
    };
    const model = { parameters: state.metaParameters, method: config.method };
    const errorsAt = (split: TaskSplit, rate: number): Promise<number[][]> =>
      errorsOf(context, store, split, rate, model);
    const own = { arm: arm.name, errors: await errorsAt('test', arm.innerRate) };
    if (arm.name !== FINETUNED) return [own];
    return [own, { arm: `${FINETUNED}, rate tuned`, errors: await tuned(errorsAt) }];
  } finally {
    await executor.close();
  }
}

/** For each number of steps with the rate that is best for it on the validation tasks. */
async function tuned(
  errorsAt: (split: TaskSplit, rate: number) => Promise<number[][]>,
): Promise<number[][]> {
  const means: number[][] = [];
  for (const rate of TUNED_RATES) means.push((await errorsAt('validation', rate)).map(meanOf));
  const errors: number[][] = [];
  for (const place of STEP_COUNTS.keys()) {
    const ofPlace = means.map((byPlace) => byPlace[place] ?? Infinity);
    const best = TUNED_RATES[ofPlace.indexOf(Math.min(...ofPlace))] ?? 0.01;
    errors.push((await errorsAt('test', best))[place] ?? []);
  }
  return errors;
}

async function errorsOf(
  context: PredictionContext,
  store: TaskStore,
  split: TaskSplit,
  rate: number,
  model: Pick<Parameters<typeof predictLogits>[1], 'parameters' | 'method'>,
): Promise<number[][]> {
  const tasks = store.tasks.filter((task) => task.split === split);
  const { lossSums } = await predictLogits(context, {
    ...model,
    taskIndices: tasks.map(({ taskIndex }) => taskIndex),
    adaptations: STEP_COUNTS.map((innerSteps) => ({ innerRate: rate, innerSteps })),
    role: 'query',
    keep: [],
  });
  return lossSums.map((sums) =>
    Array.from(sums, (sum, place) => sum / (tasks[place]?.queryRowCount ?? 1)),
  );
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function configOf({ model, method }: SinusoidArm, seed: number, outerSteps: number): RunConfig {
  return RunConfigSchema.parse({
    run: 'sinusoid',
    seed,
    data: {
      logs: 'none',
      store: 'none',
      task: 'task',
      label: { value: 'y' },
      features: [{ name: 'x', kind: 'number', scale: 'none' }],
    },
    model,
    method,
    training: {
      outerSteps,
      tasksPerOuterStep: TASKS_PER_OUTER_STEP,
      tasksPerJob: TASKS_PER_OUTER_STEP,
      // No task is met twice.
      sampling: 'sequential',
      optimizer: { kind: 'adam', rate: 0.001 },
      gradientNormMax: 1e9,
      checkpointEveryOuterSteps: outerSteps,
    },
    output: 'none',
  });
}
