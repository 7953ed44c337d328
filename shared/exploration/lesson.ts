/** The lesson of an impression: what a contextual policy learns from it once its reward is known. */

import { z } from 'zod';
import { WEIGHTS_MAX } from '../config/exploration-config.js';

/** Places of a lesson: the intercept, the adgroup and values of columns. */
export const LESSON_PLACES_MAX = 18;

export const LessonSchema = z.strictObject({
  /** The dimension of the weights that it is for. */
  dimension: z.int().min(2).max(WEIGHTS_MAX),
  /** Places among the weights, in ascending order; each feature there is 1 over the root of their number. */
  places: z
    .array(
      z
        .int()
        .nonnegative()
        .max(WEIGHTS_MAX - 1),
    )
    .min(1)
    .max(LESSON_PLACES_MAX),
  /** The calibrated probability, by which the model predicts the reward. */
  probability: z.number().min(0).max(1),
});
export type Lesson = z.infer<typeof LessonSchema>;
