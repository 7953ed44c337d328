/**
 * Handles poison tasks: the run stops and names the task, or it goes on without it. A job that
 * no task explains is tried once more in a whole outer step.
 */

import { DivergenceError, QianmoError } from '../../shared/base/errors.js';
import { poisonTaskError, poisonTaskOf } from '../plan/poison-task.js';
import type { TaskOrder } from '../dispatch/dispatcher.js';
import { FalseResultsError } from '../dispatch/second-opinions.js';
import { givenUpJobOf } from '../dispatch/job-delivery.js';
import type { QuarantinedTask, TrainingState } from '../checkpoints/training-state.js';
import type { TrainOptions } from './train-options.js';
import { warningEvent } from '../../shared/events/run-events.js';

const CURE =
  'correct its rows and prepare again, or set training.poisonTasks: quarantine and continue with --resume';

interface PoisonTasks {
  /**
   * Returns the state from which the outer step is taken again: without the poison task, or unchanged
   * when there is none or results were false.
   *
   * @throws the error when it is not that of a job, or when nothing explains it twice; QianmoError
   *   `failed` that names the task when the run stops at poison tasks.
   */
  settle(
    error: unknown,
    orders: readonly TaskOrder[],
    state: TrainingState,
  ): Promise<TrainingState>;
}

export function poisonTasks({
  run: { config, store },
  dispatcher,
  caller: { sink, signal },
}: Pick<TrainOptions, 'run' | 'dispatcher' | 'caller'>): PoisonTasks {
  let unexplainedOuterStep: number | null = null;
  return {
    settle: async (error, orders, state) => {
      if (!(error instanceof QianmoError) || signal.aborted) throw error;
      if (error instanceof FalseResultsError) {
        sink(
          warningEvent(
            'outer-step-retaken',
            `the outer step after ${state.outerStep} is taken again: ${error.message}`,
          ),
        );
        return state;
      }
      const found = await poisonTaskOf(error, orders, { dispatcher, store, signal });
      if (found === null) {
        const isFinal = error instanceof DivergenceError || givenUpJobOf(error) === null;
        if (isFinal || unexplainedOuterStep === state.outerStep) throw error;
        unexplainedOuterStep = state.outerStep;
        return state;
      }
      const { outerStep } = state;
      if (config.training.poisonTasks === 'stop') throw poisonTaskError(found, error, CURE);
      const { taskIndex, key, description, reason } = found;
      sink({ kind: 'task-quarantined', outerStep, taskIndex, task: description, reason });
      const quarantined: QuarantinedTask = { outerStep, taskIndex, key };
      return { ...state, quarantinedTasks: [...(state.quarantinedTasks ?? []), quarantined] };
    },
  };
}
