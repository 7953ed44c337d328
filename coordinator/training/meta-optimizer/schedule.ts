/**
 * Turns a direction into a step by multiplying it with minus the rate, which follows a warm-up and
 * a decay.
 */

import type { ScheduleConfig } from '../../../shared/config/training-config.js';
import {
  emptyOptimizerState,
  scalarOf,
  scaledUpdates,
  type GradientTransformation,
} from './gradient-transformation.js';

const STEP = 'schedule.outerStep';

export function scaleBySchedule(
  rate: number,
  schedule: ScheduleConfig,
  outerSteps: number,
): GradientTransformation {
  return {
    stage: 'schedule',
    init: () => ({ ...emptyOptimizerState, scalars: { [STEP]: 0 } }),
    update(updates, state) {
      const outerStep = scalarOf(state, STEP);
      const stepSize = rate * rateShareAt(outerStep, schedule, outerSteps);
      return [
        scaledUpdates(updates, -stepSize),
        { ...state, scalars: { ...state.scalars, [STEP]: outerStep + 1 } },
      ];
    },
  };
}

/**
 * Returns the share of the rate at outer step 0, 1, ... It rises as (outerStep + 1) /
 * warmupOuterSteps, so that no step has a rate of 0. Then it falls from 1 to `finalShare` at
 * `outerSteps`, linearly or as half a cosine (Loshchilov and Hutter, ICLR 2017).
 */
export function rateShareAt(
  outerStep: number,
  { warmupOuterSteps, decay, finalShare }: ScheduleConfig,
  outerSteps: number,
): number {
  if (outerStep < warmupOuterSteps) return (outerStep + 1) / warmupOuterSteps;
  const decaySteps = Math.max(1, outerSteps - warmupOuterSteps);
  const progress = Math.min(1, (outerStep - warmupOuterSteps) / decaySteps);
  switch (decay) {
    case 'none':
      return 1;
    case 'linear':
      return finalShare + (1 - finalShare) * (1 - progress);
    case 'cosine':
      return finalShare + (1 - finalShare) * 0.5 * (1 + Math.cos(Math.PI * progress));
  }
}
