/**
 * Calibration by evidence. With z the output of the scorer, `slope * z + offset` is the calibrated output: a logit, or a
 * standardised value. The slope is that of the label; the offset of a block follows from its clicks and from its impressions
 * without a click, each by straight lines in log(1 + count) between knots. The lines of clicks never fall and the others
 * never rise, so an impression without a click never raises a score by calibration, and a click never lowers it.
 */

import { z } from 'zod';
import { sigmoid } from '../base/logistic.js';
import type { LossKind, TaskLabel } from '../tasks/task-label.js';

const count = z.number().nonnegative();

/** By ascending count. Without evidence the effect is 0, and beyond the last knot it stays. */
const EffectsSchema = z.array(
  z.strictObject({
    count: z.number().positive(),
    /** The offset grows by it. */
    effect: z.number(),
  }),
);
type Effects = z.infer<typeof EffectsSchema>;

export const CalibrationSchema = z.strictObject({
  slope: z.number().positive(),
  /** That of an adgroup without evidence. */
  offset: z.number(),
  /** Labels that are values count all impressions here. */
  withoutClick: EffectsSchema,
  /** None for values. */
  clicks: EffectsSchema,
  /** The validation adgroups that it was fitted on, and their impressions. */
  adgroupCount: z.int().nonnegative(),
  impressions: count,
});
export type BundleCalibration = z.infer<typeof CalibrationSchema>;

/** The rows that a block has adapted to, in sums; for values, clicks are the sum of the standardised values. */
export interface BlockEvidence {
  readonly clicks: number;
  readonly impressions: number;
}

export const NO_EVIDENCE: BlockEvidence = { clicks: 0, impressions: 0 };

/** The offset of a block in float32, as a bundle has it. */
export function offsetOf(
  { offset, withoutClick, clicks }: Pick<BundleCalibration, 'offset' | 'withoutClick' | 'clicks'>,
  loss: LossKind,
  evidence: BlockEvidence,
): number {
  const counts = evidenceCounts(loss, evidence);
  const effects = effectAt(withoutClick, counts.withoutClick) + effectAt(clicks, counts.clicks);
  return Math.fround(offset + effects);
}

/** What an output stands for: a probability, or a value in its own unit. */
export function expectedOf(
  label: TaskLabel,
  { slope }: Pick<BundleCalibration, 'slope'>,
  offset: number,
  output: number,
): number {
  const calibrated = slope * output + offset;
  return label.loss === 'binary' ? sigmoid(calibrated) : label.mean + label.deviation * calibrated;
}

/** The two counts that an offset follows from. */
export function evidenceCounts(
  loss: LossKind,
  { clicks, impressions }: BlockEvidence,
): { readonly withoutClick: number; readonly clicks: number } {
  if (loss === 'squared') return { withoutClick: impressions, clicks: 0 };
  return { withoutClick: Math.max(0, impressions - clicks), clicks };
}

function effectAt(effects: Effects, found: number): number {
  let [lowerCount, lowerEffect] = [0, 0];
  for (const upper of effects) {
    if (found < upper.count)
      return (
        lowerEffect + segmentShare(found, lowerCount, upper.count) * (upper.effect - lowerEffect)
      );
    [lowerCount, lowerEffect] = [upper.count, upper.effect];
  }
  return lowerEffect;
}

/** Where a count lies between two knots, from 0 to 1. */
export function segmentShare(found: number, lower: number, upper: number): number {
  const share = (Math.log1p(found) - Math.log1p(lower)) / (Math.log1p(upper) - Math.log1p(lower));
  return Math.min(1, Math.max(0, share));
}
