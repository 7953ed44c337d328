/** When a run ends: at its last outer step, which people may raise while it is trained, or when training has stopped helping. */

import { QianmoError } from '../../shared/base/errors.js';
import { outerStepsOf, type TrainingState } from '../checkpoints/training-state.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';
import { FIXED_BY_END } from '../../shared/storage/lease.js';
import type { TrainOptions, TrainingOutcome } from './train-options.js';
import { noticeEvent } from '../../shared/events/run-events.js';
import { bestOf, scoresSinceBest } from '../checkpoints/checkpoint-manifest.js';

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

export interface EarlyStopping {
  /**
   * The state with its score, if it is to be scored; the same state if not, or if it has one.
   *
   * @param onHeldBack called with each pause that holds the scoring back.
   */
  scored(state: TrainingState, onHeldBack?: () => Promise<void>): Promise<TrainingState>;
  /** The same of the state that a run continues from: it may have been stopped while that was scored. */
  resumed(state: TrainingState): Promise<TrainingState>;
  isScored(state: Pick<TrainingState, 'outerStep' | 'validated'>): boolean;
  /** Whether the run ends here, although it has outer steps left. */
  isOver(state: Pick<TrainingState, 'validated'>): boolean;
  /** Says so where the run ends before its last outer step. */
  reportEnd(state: TrainingState, outerSteps: number): void;
}

type Chosen = Pick<TrainingOutcome, 'metaParameters' | 'address' | 'digest'>;

/**
 * The parameters with the lowest validation loss, or the last where no outer step was scored.
 *
 * @param last those of the state, in its checkpoint.
 */
export async function chosenOf(
  { outerStep, validated }: TrainingState,
  last: Chosen,
  checkpoints: Pick<TrainOptions['checkpoints'], 'best'>,
): Promise<Chosen> {
  const best = bestOf(validated);
  if (best === null || best.outerStep === outerStep) return last;
  return (await checkpoints.best?.()) ?? last;
}

export function earlyStopping({
  run: { config },
  validationLoss,
  caller: { sink },
}: Pick<TrainOptions, 'run' | 'validationLoss' | 'caller'>): EarlyStopping {
  const terms = validationLoss === undefined ? undefined : config.training.earlyStopping;
  const { everyOuterSteps = Infinity, patience = Infinity } = terms ?? {};
  const isScored: EarlyStopping['isScored'] = ({ outerStep, validated }) =>
    terms !== undefined && validated?.at(-1)?.outerStep === outerStep;
  const scored: EarlyStopping['scored'] = async (state, onHeldBack) => {
    const { outerStep, metaParameters, validated: earlier = [] } = state;
    const isDue = outerStep % everyOuterSteps === 0 && !isScored(state);
    if (!isDue || validationLoss === undefined) return state;
    const loss = await validationLoss(
      metaParameters,
      onHeldBack === undefined ? {} : { onHeldBack },
    );
    const validated = [...earlier, { outerStep, loss }];
    const isBest = bestOf(validated)?.outerStep === outerStep;
    sink({ kind: 'run-validated', outerStep, loss, isBest });
    return { ...state, validated };
  };
  return {
    ...{ scored, isScored },
    resumed: async (state) => {
      const { outerStep, earlierStores } = state;
      // Appended logs ended the scores before.
      const hasGrown = earlierStores?.at(-1)?.outerStep === outerStep;
      return outerStep === 0 || hasGrown ? state : scored(state);
    },
    isOver: ({ validated }) => scoresSinceBest(validated) >= patience,
    reportEnd({ outerStep, validated }, outerSteps) {
      const best = terms === undefined ? null : bestOf(validated);
      if (best === null || outerStep >= outerSteps) return;
      sink(
        noticeEvent(
          'run-stopped-early',
          `stopped at outer step ${outerStep} of ${outerSteps}: the validation loss has not fallen since ${best.outerStep}`,
        ),
      );
    },
  };
}
