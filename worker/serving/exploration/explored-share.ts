/** The share of a slot that explores: fixed, by the evidence of the candidates, or by what it costs. */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { ExplorationShare } from '../../../shared/config/exploration-config.js';
import { knownImpressions, type Candidate } from './candidate.js';
import { confidenceIn } from './policies.js';

interface ShareInput {
  /** The candidates that may be explored, and the chance of each if the slot explores. */
  readonly candidates: readonly Candidate[];
  readonly chances: () => Float64Array;
  /** The expected value of the slot without exploration. */
  readonly incumbentValue: number;
  readonly confidenceImpressions: number;
}

export function exploredShare(share: ExplorationShare, input: ShareInput): number {
  switch (share.kind) {
    case 'fixed':
      return share.share;
    case 'adaptive':
      return share.shareMin + (share.shareMax - share.shareMin) * doubtIn(input);
    case 'loss-bound': {
      const loss = expectedLoss(input);
      const lossMax = share.lossMax * input.incumbentValue;
      return loss <= 0 ? share.shareMax : Math.min(share.shareMax, lossMax / loss);
    }
  }
}

/** The mean over the candidates of 1 - confidence: 1 without any evidence. */
function doubtIn({ candidates, confidenceImpressions }: ShareInput): number {
  const doubt = candidates.reduce(
    (sum, candidate) => sum + 1 - confidenceIn(knownImpressions(candidate), confidenceImpressions),
    0,
  );
  return doubt / candidates.length;
}

/** The expected value that an exploring slot gives away, by the probabilities of the model. */
function expectedLoss({ candidates, chances, incumbentValue }: ShareInput): number {
  const found = chances();
  let loss = 0;
  for (let index = 0; index < candidates.length; index += 1) {
    const { value, probability } = at(candidates, index);
    loss += float64At(found, index) * (incumbentValue - value * probability);
  }
  return loss;
}
