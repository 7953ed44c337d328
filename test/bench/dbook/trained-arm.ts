/** An arm of the bench: a model and method, trained as a run of one process, and its predictions. */

import { predictLogits } from '../../../coordinator/evaluation/predict-logits.js';
import { createInMemoryDispatcher } from '../../../coordinator/training/in-memory-dispatcher.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { systemClock } from '../../../shared/clock.js';
import { RunConfigSchema, type RunConfig } from '../../../shared/config/run-config.js';
import type { JobExecutor } from '../../../shared/job-executor.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';

export interface Arm {
  readonly name: string;
  readonly model: Readonly<Record<string, unknown>>;
  readonly method: Readonly<Record<string, unknown>>;
  readonly training: Readonly<Record<string, unknown>>;
  /** Of the prediction; 0 leaves the model as it is. */
  readonly innerSteps: number;
  readonly innerRate: number;
}

/** Of the query rows of every task that is not of training, by task index. */
export async function predictionsOf(
  arm: Arm,
  store: TaskStore,
  executor: JobExecutor,
  seed: number,
): Promise<ReadonlyMap<number, readonly number[]>> {
  const config = configOf(arm, store, seed);
  const spec = modelSpecOf(config.model, store.manifest.features, config.method);
  const sink = (): void => undefined;
  const { signal } = new AbortController();
  const dispatcher = createInMemoryDispatcher({
    ...{ executor, clock: systemClock, attemptsMax: 1, sink },
  });
  const { state } = await train({
    ...{ config, runId: config.run, store, storeAddress: 'memory', spec, dispatcher },
    checkpoints: {
      write: () => Promise.resolve({ address: 'none', digest: 'none' }),
      latest: () => Promise.resolve(null),
    },
    ...{ resume: false, clock: systemClock, sink, signal },
  });
  const judged = store.tasks.filter(({ split }) => split !== 'train');
  let wave = 0;
  const { logits } = await predictLogits(
    {
      ...{ config, runId: config.run, store, storeAddress: 'memory', spec, dispatcher, signal },
      nextWave: () => wave++,
      onTasksDone: () => undefined,
      onBackend: () => undefined,
    },
    {
      ...{ parameters: state.metaParameters, method: config.method },
      taskIndices: judged.map(({ taskIndex }) => taskIndex),
      adaptations: [{ innerSteps: arm.innerSteps, innerRate: arm.innerRate }],
      ...{ role: 'query', keep: [0] },
    },
  );
  const [values = new Float32Array()] = logits;
  let row = 0;
  return new Map(
    judged.map(({ taskIndex, queryRowCount }) => {
      const ofTask = [...values.subarray(row, row + queryRowCount)];
      row += queryRowCount;
      return [taskIndex, ofTask];
    }),
  );
}

function configOf({ model, method, training }: Arm, store: TaskStore, seed: number): RunConfig {
  return RunConfigSchema.parse({
    run: 'dbook',
    seed,
    data: {
      logs: 'none: the bench makes the tasks',
      ...{ store: 'memory', task: 'user', label: { value: 'rating' } },
      features: store.manifest.features.map(({ name, kind }) => ({ name, kind })),
    },
    ...{ model, method },
    training: {
      ...{ tasksPerOuterStep: 64, tasksPerJob: 64, checkpointEveryOuterSteps: 1_000_000 },
      ...training,
    },
    output: 'none',
  });
}
