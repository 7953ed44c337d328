/** A bundle as a server ranks with it: read, self-checked, with a scorer for each set of context features. */

import { at, float32At, float64At, int32At, uint32At } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { UNKNOWN_BLOCK } from '../../../shared/bundle/key-index.js';
import { readBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { encodedRequestOf, requestOf } from './encoded-request.js';
import type { RankingBody } from './ranking-body.js';
import { demandCovered, type Scorer, type ScorerChoice } from './scorer-choice.js';

/** The largest difference from a self-check logit, relative to it beyond 1. */
const SELF_CHECK_TOLERANCE = 1e-5;
/** The requests of a client have one set of context features, so few are met. */
const SCORERS_MAX = 8;

/** What the bundle says of the candidates: lists with an element for each. */
export interface Estimates {
  /** The output of the scorer. */
  readonly scores: number[];
  /** Null where the adgroup's label is a value. */
  readonly probabilities: (number | null)[];
  /** What a bid is multiplied by: the probability, or the expected value. */
  readonly expected: number[];
  /** 0 for an unknown adgroup. */
  readonly blocks: number[];
  readonly segments: (string | null)[];
  /** The support rows that the block rests on, and their sums. */
  readonly evidence: {
    readonly supportRows: number[];
    readonly clicks: number[];
    readonly impressions: number[];
  };
}

export class ServedBundle {
  readonly digest: string;
  readonly loaded: LoadedBundle;
  readonly choice: ScorerChoice;
  readonly #scorers = new LruCache<string, Scorer>({ countMax: SCORERS_MAX });

  private constructor(digest: string, loaded: LoadedBundle, choice: ScorerChoice) {
    this.digest = digest;
    this.loaded = loaded;
    this.choice = choice;
  }

  /**
   * Reads a bundle, whose files are checked against their digests, and scores its self-check rows.
   *
   * @throws QianmoError of kind `data` if a file is damaged or a row has another score.
   */
  static async read(
    store: ObjectStore,
    digest: string,
    choice: ScorerChoice,
  ): Promise<ServedBundle> {
    const where = `${store.address}@${digest}`;
    const { manifest } = await readBundleManifest(store, digest);
    const loaded = await readBundle(manifest, filesOf(store), where);
    demandCovered(loaded.model, where);
    const bundle = new ServedBundle(digest, loaded, choice);
    bundle.#selfCheck(where);
    return bundle;
  }

  #selfCheck(where: string): void {
    const { blocks, rows, logits } = this.loaded.selfCheck;
    const found = new Float32Array(blocks.length);
    this.#scorerOf([]).score(
      requestOf(this.loaded.model, { contextFeatures: [], rows, blocks }),
      found,
    );
    for (let row = 0; row < found.length; row += 1) {
      const expected = float32At(logits, row);
      const difference = Math.abs(float32At(found, row) - expected);
      // A score that is not a number is never within the tolerance.
      if (difference <= SELF_CHECK_TOLERANCE * Math.max(1, Math.abs(expected))) continue;
      throw new QianmoError({
        kind: 'data',
        what: `the bundle fails its self-check: row ${row} has another score`,
        where,
        expected: `${expected} as the export scored it`,
        found: `${float32At(found, row)} by ${this.choice.name}`,
        cure: 'serve it with the version that exported it, or export the run again',
      });
    }
  }

  #scorerOf(contextFeatures: readonly string[]): Scorer {
    const key = JSON.stringify(contextFeatures);
    const known = this.#scorers.get(key);
    if (known !== undefined) return known;
    const scorer = this.choice.scorerOf(this.loaded.model, contextFeatures);
    this.#scorers.put(key, scorer);
    return scorer;
  }

  /** @throws RefusedRequest if the request does not fit the bundle. */
  estimates(body: RankingBody): Estimates {
    const { contextFeatures, request } = encodedRequestOf(this.loaded, body);
    const logits = new Float32Array(request.candidateCount);
    this.#scorerOf(contextFeatures).score(request, logits);
    const estimates: Estimates = {
      ...{ scores: Array.from(logits), probabilities: [], expected: [], segments: [] },
      blocks: Array.from(request.blocks),
      evidence: { supportRows: [], clicks: [], impressions: [] },
    };
    for (let candidate = 0; candidate < logits.length; candidate += 1)
      this.#add(estimates, float32At(logits, candidate), int32At(request.blocks, candidate));
    return estimates;
  }

  #add(estimates: Estimates, score: number, block: number): void {
    const { manifest, model, labels, calibrations } = this.loaded;
    const { slope, offset } = at(manifest.calibrations, int32At(calibrations, block));
    const label = at(manifest.labels, int32At(labels, block));
    const calibrated = slope * score + offset;
    const isProbability = label.loss === 'binary';
    const expected = isProbability
      ? sigmoid(calibrated)
      : label.mean + label.deviation * calibrated;
    estimates.expected.push(expected);
    estimates.probabilities.push(isProbability ? expected : null);
    estimates.segments.push(block === UNKNOWN_BLOCK ? null : label.segment);
    const { supportRowCounts, clicks, impressions } = model.blocks.evidence;
    const { evidence } = estimates;
    evidence.supportRows.push(uint32At(supportRowCounts, block));
    evidence.clicks.push(float64At(clicks, block));
    evidence.impressions.push(float64At(impressions, block));
  }
}
