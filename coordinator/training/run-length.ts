/** The number of outer steps of a run, which people may raise while it is trained. */

import { QianmoError } from '../../shared/base/errors.js';
import { outerStepsOf, type TrainingState } from '../checkpoints/training-state.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';
import { FIXED_BY_END } from '../../shared/storage/lease.js';
import type { TrainOptions } from './train-options.js';

export interface RunLength {
  /** The outer step at which this call ends. */
  endOf: (state: TrainingState) => number;
  /**
   * Returns the state with the length that it has by the orders that were heard; the same state if that has not
   * changed.
   */
  withExtension(state: TrainingState): TrainingState;
  /** The same, after telling how far the run is and, at its end, asking for the latest orders. */
  withLatestCommands(state: TrainingState): Promise<TrainingState>;
  /** Tells that no order changes the length any more. */
  markEnded(state: TrainingState): void;
}

export function runLength({
  run: { config },
  dispatcher: { control },
  stopAtOuterStep = Infinity,
  caller: { sink },
}: Pick<TrainOptions, 'run' | 'dispatcher' | 'stopAtOuterStep' | 'caller'>): RunLength {
  const { training } = config;
  requireDrainedEnd(stopAtOuterStep, training);
  const lengthFixedBy = lengthFixedByOf(training);
  const endOf = (state: TrainingState): number =>
    Math.min(outerStepsOf(state, training), stopAtOuterStep);
  // The trials of a sweep and the global arm of an evaluation are trained under the lease of another run.
  const own = control?.runId === config.run ? control : undefined;
  const withExtension = (state: TrainingState): TrainingState => {
    const earlierOuterSteps = outerStepsOf(state, training);
    const outerSteps = own?.orders.outerSteps ?? 0;
    if (outerSteps <= earlierOuterSteps || lengthFixedBy !== null) return state;
    sink({ kind: 'run-extended', outerSteps, earlierOuterSteps });
    return { ...state, extendedOuterSteps: outerSteps };
  };
  const tell = (state: TrainingState, fixedBy: string | null): void => {
    const { outerStep } = state;
    own?.tell({ outerStep, outerSteps: outerStepsOf(state, training), lengthFixedBy: fixedBy });
  };
  return {
    ...{ endOf, withExtension },
    withLatestCommands: async (state) => {
      tell(state, lengthFixedBy);
      if (state.outerStep >= endOf(state)) await own?.refresh();
      return withExtension(state);
    },
    markEnded: (state) => tell(state, FIXED_BY_END),
  };
}

/** The field that makes outer steps depend on how many there are, as `training.schedule.decay: cosine`. */
export function lengthFixedByOf({ schedule, staleness }: TrainingConfig): string | null {
  if (schedule.decay !== 'none') return `training.schedule.decay: ${schedule.decay}`;
  return staleness === undefined ? null : 'training.staleness';
}

/** A call that ends elsewhere would change what the next outer steps are computed with. */
function requireDrainedEnd(
  stopAtOuterStep: number,
  { staleness, outerSteps }: TrainingConfig,
): void {
  if (staleness === undefined || stopAtOuterStep >= outerSteps) return;
  const { drainEveryOuterSteps } = staleness;
  if (stopAtOuterStep % drainEveryOuterSteps === 0) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'a run with staleness can only stop where its outer steps do not overlap',
    where: 'training.staleness.drainEveryOuterSteps',
    expected: `a stop at a multiple of ${drainEveryOuterSteps}`,
    found: `a stop at outer step ${stopAtOuterStep}`,
    cure: 'lower drainEveryOuterSteps, or leave out training.staleness',
  });
}
