/** The scores of a run on its validation adgroups, outer step by outer step. */

import { z } from 'zod';

const VALIDATED_COUNT_MAX = 1_000_000;

const ValidatedStepSchema = z.strictObject({
  outerStep: z.int().nonnegative(),
  /** Logloss an impression, or squared error a row. */
  loss: z.number(),
});
export const ValidatedStepsSchema = z.array(ValidatedStepSchema).max(VALIDATED_COUNT_MAX);
export type ValidatedStep = z.infer<typeof ValidatedStepSchema>;

/** The first of the lowest losses; null if there is none. */
export function bestOf(validated: readonly ValidatedStep[] = []): ValidatedStep | null {
  let best: ValidatedStep | null = null;
  for (const step of validated) if (best === null || step.loss < best.loss) best = step;
  return best;
}

/** The number of scores since the best one. */
export function scoresSinceBest(validated: readonly ValidatedStep[] = []): number {
  const best = bestOf(validated);
  return best === null ? 0 : validated.length - 1 - validated.indexOf(best);
}
