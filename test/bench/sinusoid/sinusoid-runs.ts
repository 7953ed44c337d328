/**
 * One arm with one seed: trained by the outer loop on an executor in this process, then tested by
 * predict jobs. All computations are those of the project.
 */

import { predictLogits } from '../../../coordinator/evaluation/predict-logits.js';
import type { AdaptableModel, TaskJobContext } from '../../../coordinator/evaluation/task-jobs.js';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory-dispatcher.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { systemClock } from '../../../shared/base/clock.js';
import { type RunConfig, RunConfigSchema } from '../../../shared/config/run-config.js';
import { DivergenceError } from '../../../shared/base/errors.js';
import type { MetaParameters } from '../../../shared/models/initial-values.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { TaskSplit, TaskStore } from '../../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../../worker/compute/job/create-executor.js';
import { FINETUNED } from './sinusoid-arms.js';
import type { SinusoidOutcome, SinusoidRun } from './sinusoid-outcome.js';
import { sinusoidStore } from './sinusoid-tasks.js';

export const STEP_COUNTS = [0, 1, 5, 10];

/**
 * Candidate rates of the pre-trained network, which was trained for no rate. The best on validation
 * tasks is used.
 */
const TUNED_RATES = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1];

const TASKS_PER_OUTER_STEP = 25;
const HELD_OUT_TASK_COUNT = 600;

/** The inputs shared by training and testing of an arm. */
type Common = Pick<
  TaskJobContext,
  'config' | 'store' | 'storeAddress' | 'spec' | 'dispatcher' | 'signal'
>;

/** Returns the outcome of the arm, and for pre-training also the one with tuned rates. */
export async function sinusoidOutcomes(run: SinusoidRun): Promise<SinusoidOutcome[]> {
  const { arm, seed, outerSteps } = run;
  const store = sinusoidStore({
    seed,
    trainingTaskCount: outerSteps * TASKS_PER_OUTER_STEP,
    validationTaskCount: HELD_OUT_TASK_COUNT,
    testTaskCount: HELD_OUT_TASK_COUNT,
  });
  const executor = await createExecutor({ openStore: () => Promise.resolve(store) });
  try {
    const common = commonOf(run, store, executor);
    const trained = await trainedParameters(common);
    const names = arm.name === FINETUNED ? [FINETUNED, `${FINETUNED}, rate tuned`] : [arm.name];
    if (typeof trained === 'number')
      return names.map((name) => ({
        arm: name,
        seed,
        divergedAfterOuterSteps: trained,
        errors: [],
      }));
    const model = { parameters: trained, method: common.config.method };
    const context = predictionContextOf(common);
    const outcomes: SinusoidOutcome[] = [];
    for (const name of names) {
      const errors =
        name === arm.name
          ? await errorsOf(context, model, 'test', arm.innerRate)
          : await tunedErrors(context, model);
      outcomes.push({ arm: name, seed, divergedAfterOuterSteps: null, errors });
    }
    return outcomes;
  } finally {
    await executor.close();
  }
}

function commonOf(run: SinusoidRun, store: TaskStore, executor: LocalExecutor): Common {
  const config = configOf(run);
  return {
    config,
    store,
    storeAddress: 'memory',
    spec: modelSpecOf(config.model, store.manifest.features, config.method),
    dispatcher: createInMemoryDispatcher({
      executors: [executor],
      clock: systemClock,
      attemptsMax: 1,
      sink: () => undefined,
    }),
    signal: new AbortController().signal,
  };
}

/** The trained parameters, or the number of completed outer steps when training diverged. */
async function trainedParameters({
  dispatcher,
  signal,
  ...run
}: Common): Promise<MetaParameters | number> {
  let outerStepsDone = 0;
  try {
    const { state } = await train({
      run,
      dispatcher,
      checkpoints: {
        write: () => Promise.resolve({ address: 'memory', digest: '' }),
        latest: () => Promise.resolve(null),
      },
      start: { resume: false },
      caller: {
        clock: systemClock,
        sink: (event) => {
          if (event.kind === 'outer-step') outerStepsDone = event.outerStep;
        },
        signal,
      },
    });
    return state.metaParameters;
  } catch (error) {
    if (error instanceof DivergenceError) return outerStepsDone;
    throw error;
  }
}

function predictionContextOf(common: Common): TaskJobContext {
  let wave = 0;
  return {
    ...common,
    runId: 'sinusoid-test',
    nextWave: () => (wave += 1),
    onTasksDone: () => undefined,
    onBackend: () => undefined,
  };
}

/** Errors by number of steps, each with the best rate for it on the validation tasks. */
async function tunedErrors(context: TaskJobContext, model: AdaptableModel): Promise<number[][]> {
  const means: number[][] = [];
  for (const rate of TUNED_RATES)
    means.push((await errorsOf(context, model, 'validation', rate)).map(meanOf));
  const errors: number[][] = [];
  for (const place of STEP_COUNTS.keys()) {
    const ofPlace = means.map((byPlace) => byPlace[place] ?? Infinity);
    const best = TUNED_RATES[ofPlace.indexOf(Math.min(...ofPlace))] ?? 0.01;
    errors.push((await errorsOf(context, model, 'test', best))[place] ?? []);
  }
  return errors;
}

/** Mean squared error of each task's query rows, by number of inner steps. */
async function errorsOf(
  context: TaskJobContext,
  model: AdaptableModel,
  split: TaskSplit,
  rate: number,
): Promise<number[][]> {
  const tasks = context.store.tasks.filter((task) => task.split === split);
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

function configOf({ arm, seed, outerSteps }: SinusoidRun): RunConfig {
  const { model, method } = arm;
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
      // No task is used twice.
      sampling: 'sequential',
      optimizer: { kind: 'adam', rate: 0.001 },
      gradientNormMax: 1e9,
      checkpointEveryOuterSteps: outerSteps,
    },
    output: 'none',
  });
}
