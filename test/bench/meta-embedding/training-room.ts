/**
 * The services for the runs of the reproduction: one embedded Redis and its workers, or one compute
 * process. Successive runs train and predict on them as the `qianmo` command would.
 */

import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import { readFlatRows } from '../../../coordinator/scoring/held-out-rows.js';
import { auc, lossSum, sumOf } from '../../../coordinator/scoring/metrics.js';
import { predictLogits } from '../../../coordinator/evaluation/predict-logits.js';
import type { PreparedRun } from '../../../coordinator/plan/prepared-run.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import { createQueueDispatcher } from '../../../coordinator/dispatch/queue-dispatcher.js';
import type { StartFrom } from '../../../coordinator/training/train-options.js';
import type { TrainingState } from '../../../coordinator/checkpoints/training-state.js';
import type { RunContext } from '../../../coordinator/runs/call/run-context.js';
import { dispatchForRun } from '../../../coordinator/runs/dispatch-for-run.js';
import { checkpointsOf, openPreparedRun } from '../../../coordinator/runs/run-files.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { MetaParameters } from '../../../shared/models/initial-values.js';
import type { TaskSplit } from '../../../shared/tasks/task-store.js';

/** Metrics over all rows of the query sets of a split. */
export interface RowMetrics {
  readonly auc: number;
  readonly logloss: number;
}

export interface TrainedRun {
  readonly state: TrainingState;
  /** Rate of the outer steps since this start; null if no steps were left. */
  readonly stepsPerSecond: number | null;
}

export interface TrainingRoom {
  /** Resumes an earlier start of the same run, if it was stopped. */
  train(config: RunConfig, startFrom?: StartFrom): Promise<TrainedRun>;
  /** Measures predictions without inner steps, from the initialisation of the config's method. */
  measure(config: RunConfig, parameters: MetaParameters, split: TaskSplit): Promise<RowMetrics>;
}

/**
 * Everything started here is stopped when the context closes.
 *
 * @param workers on a queue; 0 computes in a child process, without a queue.
 */
export async function openTrainingRoom(
  config: RunConfig,
  workers: number,
  context: RunContext,
): Promise<TrainingRoom> {
  const choice = workers === 0 ? { processes: 1 } : { workers };
  const started = await dispatchForRun(
    config,
    { runId: 'reproduction', mayTrain: true },
    choice,
    context,
  );
  const { redisUrl } = started;
  const { clock, sink, signal } = context;

  const dispatched = async <Result>(
    { queue: limits, run: runId }: RunConfig,
    work: (dispatcher: Dispatcher) => Promise<Result>,
  ): Promise<Result> => {
    if (redisUrl === null) return work(started.dispatcher);
    const queue = bullmqJobQueue({ redisUrl, prefix: limits.prefix, clock });
    const nonce = freshNonce();
    const dispatcher = await createQueueDispatcher({ queue, limits, runId, nonce, clock, sink });
    try {
      return await work(dispatcher);
    } finally {
      await dispatcher.close();
    }
  };

  return {
    train: (config, startFrom) =>
      dispatched(config, async (dispatcher) => {
        const run = await openPreparedRun(config, context);
        let [startOuterStep, startMs] = [0, clock.monotonicMs()];
        const { state } = await train({
          run,
          dispatcher,
          checkpoints: checkpointsOf(run, context),
          start: { resume: true, ...(startFrom === undefined ? {} : { startFrom }) },
          caller: {
            clock,
            sink: (event) => {
              if (event.kind === 'run-started')
                [startOuterStep, startMs] = [event.outerStep, clock.monotonicMs()];
              sink(event);
            },
            signal,
          },
        });
        const stepCount = state.outerStep - startOuterStep;
        const seconds = (clock.monotonicMs() - startMs) / 1000;
        return { state, stepsPerSecond: stepCount === 0 ? null : stepCount / seconds };
      }),
    measure: (config, parameters, split) =>
      dispatched(config, async (dispatcher) => {
        const run = await openPreparedRun(config, context);
        return measured(run, dispatcher, signal, parameters, split);
      }),
  };
}

async function measured(
  run: PreparedRun,
  dispatcher: Dispatcher,
  signal: AbortSignal,
  parameters: MetaParameters,
  split: TaskSplit,
): Promise<RowMetrics> {
  const { config, store } = run;
  const taskIndices = store.tasks
    .filter((task) => task.split === split)
    .map(({ taskIndex }) => taskIndex);
  let wave = 0;
  const context = {
    ...{ ...run, runId: config.run, dispatcher, signal },
    nextWave: () => wave++,
    onTasksDone: () => undefined,
    onBackend: () => undefined,
  };
  const { logits } = await predictLogits(context, {
    ...{ parameters, method: config.method, taskIndices },
    adaptations: [{ innerRate: 1, innerSteps: 0 }],
    role: 'query',
    keep: [0],
  });
  const rows = await readFlatRows(store, taskIndices, 'query');
  const [ofRows = new Float32Array()] = logits;
  const area = auc(ofRows, rows);
  if (area === null) throw new Error('the held-out rows have clicks and others');
  return { auc: area, logloss: lossSum(ofRows, rows) / sumOf(rows.impressions) };
}
