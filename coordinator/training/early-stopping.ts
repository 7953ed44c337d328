/** Ends a run before its last outer step, when the loss of validation adgroups has stopped falling. */

import { bestOf, plateausIn, type TrainingState } from '../checkpoints/checkpoint-manifest.js';
import { plateausMaxOf } from '../../shared/config/training-config.js';
import { noticeEvent } from '../../shared/events/run-events.js';
import { afterPlateaus } from './meta-optimizer.js';
import type { TrainOptions } from './train-options.js';

/**
 * @param goBackToBest returns the state with the parameters of the best score. With `schedule.decay: plateau`, training goes on
 *   from them at the first plateau.
 */
export function earlyStopping(
  {
    run: { config },
    validationLoss,
    caller: { sink },
  }: Pick<TrainOptions, 'run' | 'validationLoss' | 'caller'>,
  goBackToBest: (state: TrainingState) => Promise<TrainingState>,
) {
  const terms = validationLoss === undefined ? undefined : config.training.earlyStopping;
  const { everyOuterSteps = Infinity, patience = Infinity } = terms ?? {};
  const { schedule } = config.training;
  const isScored = ({
    outerStep,
    validated,
  }: Pick<TrainingState, 'outerStep' | 'validated'>): boolean =>
    terms !== undefined && validated?.at(-1)?.outerStep === outerStep;
  /** Returns the state with its score, if it is to be scored; the same state if not, or if it has one. */
  const scored = async (state: TrainingState): Promise<TrainingState> => {
    const { outerStep, metaParameters, validated: earlier = [] } = state;
    const isDue = outerStep % everyOuterSteps === 0 && !isScored(state);
    if (!isDue || validationLoss === undefined) return state;
    const loss = await validationLoss(metaParameters);
    const validated = [...earlier, { outerStep, loss }];
    const isBest = bestOf(validated)?.outerStep === outerStep;
    sink({ kind: 'run-validated', outerStep, loss, isBest });
    const plateaus = plateausIn(validated, patience);
    const optimizer = afterPlateaus(state.optimizer, schedule, plateaus);
    const reached = { ...state, validated, optimizer };
    const isFirst = plateaus === 1 && plateausIn(earlier, patience) === 0;
    return isFirst && schedule.decay === 'plateau' ? goBackToBest(reached) : reached;
  };
  return {
    ...{ scored, isScored },
    /** Scores the state that a run continues from: it may have been stopped while that was scored. */
    resumed: async (state: TrainingState): Promise<TrainingState> => {
      const { outerStep, earlierStores } = state;
      // Appended logs ended the scores before.
      const hasGrown = earlierStores?.at(-1)?.outerStep === outerStep;
      return outerStep === 0 || hasGrown ? state : scored(state);
    },
    /** Whether the run ends here, although it has outer steps left. */
    isOver: ({ validated }: Pick<TrainingState, 'validated'>): boolean =>
      plateausIn(validated, patience) >= plateausMaxOf(schedule),
    /** Reports that the run ends before its last outer step, if it does. */
    reportEnd({ outerStep, validated }: TrainingState, outerSteps: number): void {
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
