/** What scores a bundle: the native kernel where it is compiled, plain TypeScript otherwise. */

import { QianmoError } from '../../../shared/base/errors.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import {
  nativeLookups,
  type ColumnsAddon,
  KernelScorer,
  loadScoringAddon,
  type MappingAddon,
} from '../kernel-scorer.js';
import { plainLookups, type TextLookups } from '../candidate-columns.js';
import type { RankingRequest } from '../ranking-request.js';
import { ReferenceScorer } from '../reference-scorer.js';

export interface Scorer {
  /** Writes the logit of each candidate; a standardised value where a block predicts values. */
  score(request: RankingRequest, logits: Float32Array): void;
  /** Called before the arrays of the model are unmapped, after which it cannot score. */
  release?(): void;
}

export interface ScorerChoice {
  /** `kernel avx2`, for example. */
  readonly name: string;
  /** Why it is not the kernel; null if it is. */
  readonly reason: string | null;
  /** @param contextFeatures the features that a request has once. */
  scorerOf(model: RankingModel, contextFeatures: readonly string[]): Scorer;
  readonly lookups: TextLookups;
  /** What takes bodies apart, orders candidates and writes answers; null where it is not compiled. */
  readonly addon: RequestAddon | null;
}

type RequestAddon = Omit<
  ColumnsAddon,
  'lookUpValues' | 'lookUpBuckets' | 'lookUpKeys' | 'lookUpHashes'
> &
  Pick<MappingAddon, 'detach'>;

/** @param addonPath where `qianmo setup` puts the compiled kernel. */
export function chosenScorer(addonPath: string): ScorerChoice {
  let addon: ReturnType<typeof loadScoringAddon>;
  try {
    addon = loadScoringAddon(addonPath);
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    return {
      name: 'typescript',
      reason: `${error.report.what}: run \`qianmo setup\` to compile it`,
      scorerOf: (model, contextFeatures) => new ReferenceScorer(model, contextFeatures),
      lookups: plainLookups,
      addon: null,
    };
  }
  return {
    name: `kernel ${addon.kernels()[0] ?? 'portable'}`,
    reason: null,
    scorerOf: (model, contextFeatures) => new KernelScorer(addon, model, contextFeatures),
    lookups: nativeLookups(addon),
    addon,
  };
}
