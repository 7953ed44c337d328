/**
 * The sums that tell whether probabilities are right while serving: over the impressions that feedback reports, what was
 * predicted and what came of it, by bundle and segment. They are counted from the start of the process on, each event
 * once, by the process that acknowledged it; the log of decisions is the durable record.
 */

import type { ShownChoice } from './shown-choice.js';

export interface CalibrationSums {
  /** The first digits of its digest. */
  readonly bundle: string;
  /** `all` where tasks have no segments. */
  readonly segment: string;
  readonly impressions: number;
  /** Sum of the probabilities p of these impressions. */
  readonly predicted: number;
  /** Sum of p (1 - p): the variance of the outcomes if they are independent and the probabilities right. */
  readonly variance: number;
  /** Sum of the rewards that were reported. */
  readonly observed: number;
}

type Sums = { -readonly [Part in 'impressions' | 'predicted' | 'variance' | 'observed']: number };

/** Bundles that are counted, the last that had feedback. */
const BUNDLES_MAX = 16;
const NO_SEGMENTS = 'all';

/** The segment as metrics name it. */
export function segmentLabel(segment: string | null): string {
  return segment ?? NO_SEGMENTS;
}

export class CalibrationCounts {
  /** Sums of each segment, by bundle. */
  readonly #sums = new Map<string, Map<string, Sums>>();

  addImpression(choice: ShownChoice): void {
    const { probability } = choice;
    const sums = this.#of(choice);
    sums.impressions += 1;
    sums.predicted += probability;
    sums.variance += probability * (1 - probability);
  }

  addOutcome(choice: ShownChoice, reward: number): void {
    this.#of(choice).observed += reward;
  }

  all(): readonly CalibrationSums[] {
    return [...this.#sums].flatMap(([bundle, bySegment]) =>
      [...bySegment].map(([segment, sums]) => ({ bundle, segment, ...sums })),
    );
  }

  #of({ bundle, segment }: ShownChoice): Sums {
    const known = this.#sums.get(bundle) ?? new Map<string, Sums>();
    this.#sums.delete(bundle);
    const [oldest] = this.#sums.keys();
    if (oldest !== undefined && this.#sums.size >= BUNDLES_MAX) this.#sums.delete(oldest);
    this.#sums.set(bundle, known);
    const named = segmentLabel(segment);
    const sums = known.get(named) ?? { impressions: 0, predicted: 0, variance: 0, observed: 0 };
    known.set(named, sums);
    return sums;
  }
}
