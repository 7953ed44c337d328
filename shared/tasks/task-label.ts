/**
 * The label of a task's rows and the loss by which predictions are judged. A store has a list of labels,
 * one for each segment, and every task has one of them.
 *
 * With z the model's output, i a row's weight (its impressions) and c what the store keeps beside it:
 *
 *   binary   i softplus(z) - c z            z a logit, c the clicks: label times weight
 *   squared  i z^2 / 2 - c z + c^2 / (2 i)  that is i (z - t)^2 / 2 of the standardised value
 *                                           t = (value - mean) / deviation, c = i t
 *
 * Both are a convex function of z minus c z, so that one graph computes both.
 */

import { z } from 'zod';

export type LossKind = 'binary' | 'squared';

/** Null if the store has no segments. */
const segment = z.string().min(1).nullable();

export const TaskLabelSchema = z.discriminatedUnion('loss', [
  z.strictObject({ loss: z.literal('binary'), segment }),
  /** The moments are those of the segment's rows in training tasks, by weight. */
  z.strictObject({
    loss: z.literal('squared'),
    segment,
    mean: z.number(),
    deviation: z.number().positive(),
  }),
]);
export type TaskLabel = z.infer<typeof TaskLabelSchema>;

export const CLICK_LABEL: TaskLabel = { loss: 'binary', segment: null };

/** A store's manifest. */
interface Labelled {
  readonly labels?: readonly TaskLabel[] | undefined;
}

export function labelsOf({ labels }: Labelled): readonly TaskLabel[] {
  return labels ?? [CLICK_LABEL];
}

export function labelOf(
  manifest: Labelled,
  { labelIndex = 0 }: { readonly labelIndex?: number },
): TaskLabel {
  const label = labelsOf(manifest)[labelIndex];
  if (label === undefined) throw new Error(`the manifest has no label ${labelIndex}`);
  return label;
}
