/**
 * An arm of the bench: a model and method, trained as a run in one process, and its predictions.
 */

import { predictLogits } from '../../../coordinator/evaluation/predict-logits.js';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory-dispatcher.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { systemClock } from '../../../shared/base/clock.js';
import { type RunConfig, RunConfigSchema } from '../../../shared/config/run-config.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import type { MetaParameters } from '../../../shared/models/initial-values.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import type { FeatureTerms } from './dbook-store.js';

export interface Arm {
  readonly name: string;
  readonly features: FeatureTerms;
  readonly model: Readonly<Record<string, unknown>>;
  readonly method: Readonly<Record<string, unknown>>;
  /** The section `training` except the number of outer steps. */
  readonly training: Readonly<Record<string, unknown>>;
  /**
   * The number of outer steps is chosen on validation users: a multiple of `every`, at most `most`.
   */
  readonly outerSteps: { readonly every: number; readonly most: number };
  readonly adaptation: Adaptation;
}

/** For the query rows of every task that is not a training task, by task index. */
export type PredictionsByTask = ReadonlyMap<number, readonly number[]>;

interface ArmRun {
  readonly store: TaskStore;
  readonly executor: JobExecutor;
  readonly seed: number;
  readonly outerSteps: number;
  /** Predictions are made at multiples of this number of steps, and at the end. */
  readonly every: number;
}

/** Trains, and reports the predictions during training and at the end. */
export async function trainArm(
  arm: Arm,
  { store, executor, seed, outerSteps, every }: ArmRun,
  onPredictions: (outerStep: number, predictions: PredictionsByTask) => void,
): Promise<void> {
  const config = configOf(arm, store, seed, outerSteps, every);
  const spec = modelSpecOf(config.model, store.manifest.features, config.method);
  const run = { config, store, storeAddress: 'memory', spec };
  const sink = (): void => undefined;
  const { signal } = new AbortController();
  const dispatcher = createInMemoryDispatcher({
    ...{ executors: [executor], clock: systemClock, attemptsMax: 1, sink },
  });
  const judged = store.tasks.filter(({ split }) => split !== 'train');
  let wave = 0;
  const predict = async (parameters: MetaParameters): Promise<PredictionsByTask> => {
    const { logits } = await predictLogits(
      {
        ...{ ...run, runId: config.run, dispatcher, signal },
        nextWave: () => wave++,
        onTasksDone: () => undefined,
        onBackend: () => undefined,
      },
      {
        ...{ parameters, method: config.method },
        taskIndices: judged.map(({ taskIndex }) => taskIndex),
        ...{ adaptations: [arm.adaptation], role: 'query', keep: [0] },
      },
    );
    return byTask(judged, logits[0] ?? new Float32Array());
  };
  let predictedStep = -1;
  await train({
    run,
    dispatcher,
    checkpoints: {
      // Tables are updated in place, so predictions must be made immediately.
      write: async ({ outerStep, metaParameters }) => {
        if (outerStep > predictedStep) onPredictions(outerStep, await predict(metaParameters));
        predictedStep = outerStep;
        return { address: 'none', digest: 'none' };
      },
      latest: () => Promise.resolve(null),
    },
    start: { resume: false },
    caller: { clock: systemClock, sink, signal },
  });
}

function byTask(tasks: TaskStore['tasks'], values: Float32Array): PredictionsByTask {
  let row = 0;
  return new Map(
    tasks.map(({ taskIndex, queryRowCount }) => {
      const ofTask = [...values.subarray(row, row + queryRowCount)];
      row += queryRowCount;
      return [taskIndex, ofTask];
    }),
  );
}

function configOf(
  { model, method, training }: Arm,
  store: TaskStore,
  seed: number,
  outerSteps: number,
  every: number,
): RunConfig {
  return RunConfigSchema.parse({
    run: 'dbook',
    seed,
    data: {
      logs: 'none: the bench makes the tasks',
      ...{ store: 'memory', task: 'user', label: { value: 'rating' } },
      features: store.manifest.features.map((feature) =>
        feature.kind === 'bag'
          ? { name: feature.name, kind: 'bag', separator: ' ', lengthMax: feature.lengthMax }
          : { name: feature.name, kind: feature.kind },
      ),
    },
    ...{ model, method },
    training: {
      tasksPerOuterStep: 64,
      ...training,
      ...{ outerSteps, checkpointEveryOuterSteps: every },
    },
    output: 'none',
  });
}
