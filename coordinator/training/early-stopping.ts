/** The scores of a run on its validation adgroups while it is trained, and its end when training has stopped helping. */

import { noticeEvent } from '../../shared/events/run-events.js';
import { bestOf, scoresSinceBest } from '../checkpoints/checkpoint-manifest.js';
import type { TrainingState } from '../checkpoints/training-state.js';
import type { TrainingOutcome, TrainOptions } from './train-options.js';

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
