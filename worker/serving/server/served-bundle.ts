/** A bundle as a server ranks with it: read, self-checked, with a scorer for each set of context features. */

import { type LiveCandidates, LiveBlocks } from './live-blocks.js';
import {
  at,
  float32At,
  int32At,
  uint32At,
  float64At,
  uint8At,
} from '../../../shared/base/arrays.js';
import { type QianmoError, errorOf } from '../../../shared/base/errors.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { Catalog } from './catalog.js';
import { withDerived, RequestEncoder } from './encoded-request.js';
import { KernelAdapter } from './kernel-adapter.js';
import { explanationsOf, type ExplainedCandidate, type ScoreExplanation } from '../explanation.js';
import { requestOfRows, type RankingRequest } from '../ranking-request.js';
import type { RankingBody } from './ranking-body.js';
import { RefusedRequest, type Refusal, refusalOf } from './refused-request.js';
import { requireCovered } from '../scoring-plan.js';
import { wronglyLookedUp, type Difference } from './self-check.js';
import { StartBlocks } from './start-blocks.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { KernelScorer, type ScoringAddon } from '../kernel-scorer.js';

/** The largest difference from a self-check logit, relative to it beyond 1. */
const SELF_CHECK_TOLERANCE = 1e-5;
/** Sets of context features; the requests of a client have one, so few are met. */
const SIDES_MAX = 8;

interface ServedBundleParts {
  readonly digest: string;
  readonly loaded: LoadedBundle;
  readonly addon: ScoringAddon;
  /** Gives the memory of the arrays back; called once nothing reads them any more. */
  readonly free?: () => void;
}

export class ServedBundle {
  readonly digest: string;
  readonly loaded: LoadedBundle;
  readonly addon: ScoringAddon;
  /** Blocks that adapted while the bundle is served. */
  readonly live: LiveBlocks;
  /** What the server knows of adgroups; null where it keeps no state. */
  catalog: Catalog | null = null;
  /** The candidates that it has scored, and those whose adgroup it does not have. */
  readonly scored = {
    ...{ candidates: 0, unknown: 0 },
    dropped: { 'wrong-value': 0, 'not-finite': 0, paused: 0, removed: 0 },
  };
  /** An explanation scores a request again. */
  #lastCounted: RankingBody | null = null;
  readonly #sides = new LruCache<string, EncodedSide>({ countMax: SIDES_MAX });
  readonly #estimator: Estimator;
  readonly #starts: StartBlocks;
  readonly #free: () => void;
  /** Undefined until it is asked for: most servers adapt nothing. */
  #adapter: KernelAdapter | null | undefined;
  #holderCount = 0;
  #isRetired = false;
  #isFreed = false;

  /** A bundle that is known to score its self-check rows, or is about to be checked. */
  constructor({ digest, loaded, addon, free = () => undefined }: ServedBundleParts) {
    this.digest = digest;
    this.loaded = loaded;
    this.addon = addon;
    this.#estimator = new Estimator(loaded, addon);
    this.#free = free;
    const scorerOf = (model: RankingModel, names: readonly string[]): KernelScorer =>
      this.#scorerOf(model, names);
    this.live = new LiveBlocks(loaded.model, scorerOf);
    this.#starts = new StartBlocks(loaded, () => this.adapter, scorerOf);
  }

  /** Null if adgroups adapt by the engine. */
  get adapter(): KernelAdapter | null {
    this.#demandMemory();
    return (this.#adapter ??= KernelAdapter.of(this.addon, this.loaded));
  }

  /** Such as `kernel avx2`. */
  get scorerName(): string {
    return `kernel ${this.addon.kernels()[0] ?? 'portable'}`;
  }

  /**
   * Keeps the arrays until the function that it returns is called. Whoever reads them across an await
   * must hold the bundle.
   */
  hold(): () => void {
    this.#demandMemory();
    this.#holderCount += 1;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#holderCount -= 1;
      this.#freeIfUnused();
    };
  }

  /** The bundle takes no more requests: it is freed once those that hold it are answered. */
  retire(): void {
    if (this.#isRetired) return;
    this.#isRetired = true;
    this.#freeIfUnused();
  }

  get isRetired(): boolean {
    return this.#isRetired;
  }

  #freeIfUnused(): void {
    if (!this.#isRetired || this.#holderCount > 0 || this.#isFreed) return;
    this.#isFreed = true;
    for (const { scorer } of this.#sides.values()) scorer.release();
    this.live.release();
    this.#starts.release();
    this.#adapter?.release();
    this.#free();
  }

  /** There may be files of another bundle at the same addresses. */
  #demandMemory(): void {
    if (this.#isFreed) throw new Error('a bundle is used whose memory was given back');
  }

  /**
   * Scores and calibrates the self-check rows, and looks up the keys of their adgroups and the texts of their ids.
   *
   * @throws QianmoError if no scorer covers the model, or something is not what the export wrote.
   */
  selfCheck(where: string): void {
    const { model, selfCheck } = this.loaded;
    requireCovered(model, where);
    const { blocks, rows, logits, expected } = selfCheck;
    const found = this.#estimator.begin(blocks.length);
    found.blocks.set(blocks);
    const scorer = this.#scorerOf(model, []);
    scorer.score(requestOfRows(model.spec, rows, blocks), found.scores, found.variances);
    scorer.release();
    this.#estimator.complete(found, null);
    for (let row = 0; row < blocks.length; row += 1) {
      const { scores, expected: calibrated } = found;
      this.#requireAlike('score', row, [float32At(scores, row), float32At(logits, row)], where);
      this.#requireAlike(
        'calibrated value',
        row,
        [float64At(calibrated, row), float32At(expected, row)],
        where,
      );
    }
    const wrong = wronglyLookedUp(this.loaded, this.addon);
    if (wrong !== null) throw this.#failedCheck(wrong, where);
  }

  #requireAlike(
    what: string,
    row: number,
    [found, expected]: readonly [found: number, expected: number],
    where: string,
  ): void {
    // What is not a number is never within the tolerance.
    if (Math.abs(found - expected) <= SELF_CHECK_TOLERANCE * Math.max(1, Math.abs(expected)))
      return;
    const of = { what: `row ${row} has another ${what}`, expected: String(expected) };
    throw this.#failedCheck({ ...of, found: String(found) }, where);
  }

  #failedCheck({ what, expected, found }: Difference, where: string): QianmoError {
    return errorOf('data', `the bundle fails its self-check: ${what}`, {
      where,
      expected: `${expected} as the export has it`,
      found: `${found} by ${this.scorerName}`,
      cure: 'serve it with the version that exported it, or export the run again',
    });
  }

  #scorerOf(model: RankingModel, contextFeatures: readonly string[]): KernelScorer {
    return new KernelScorer(this.addon, model, contextFeatures);
  }

  /**
   * Scores the candidates of a request; the arrays are those of the next one, too.
   *
   * @throws RefusedRequest if the request does not fit the bundle.
   */
  estimates(body: RankingBody): Estimates {
    this.#demandMemory();
    if (body.bundle !== null && body.bundle !== this.digest) throw otherBundle(this.digest);
    const { adgroups } = body;
    const estimates = this.#estimator.begin(body.candidateCount);
    const { blocks, hashes } = estimates;
    const { index } = this.loaded;
    if (adgroups.form === 'texts') {
      const asked = [adgroups.bytes, adgroups.spans] as const;
      const keys = [index.hashes, index.blocks, index.keyBytes, index.keyOffsets] as const;
      this.addon.lookUpKeys(...asked, ...keys, blocks, hashes);
    } else {
      this.addon.lookUpHashes(adgroups.words, index.hashes, index.blocks, blocks);
      hashes.set(adgroups.words);
    }
    this.#count(blocks, body);
    const { segmentColumn } = this.loaded.manifest;
    this.catalog?.complete(body, hashes, segmentColumn, (candidate, refusal) =>
      this.drop(body, candidate, refusal),
    );
    const { encoder, scorer, contextFeatures } = this.#sideOf(body);
    const request = this.#encoded(body, blocks, encoder);
    scorer.score(request, estimates.scores, estimates.variances);
    const starts = this.#starts.score(body, request, contextFeatures, estimates);
    const live = this.live.score(request, contextFeatures, estimates);
    const notes =
      starts === null || live === null ? (live ?? starts) : new Map([...starts, ...live]);
    this.#estimator.complete(estimates, notes);
    this.#dropWithoutScore(body, estimates);
    if (notes === null) return estimates;
    return { ...estimates, notes, ...(live === null ? {} : { live }) };
  }

  /** Leaves a candidate out of the auction, and counts it. */
  drop({ dropped }: RankingBody, candidate: number, refusal: Refusal): void {
    if (dropped.has(candidate)) return;
    dropped.set(candidate, refusal);
    this.#countDropped(refusal);
  }

  #countDropped({ reason }: Refusal): void {
    const { dropped } = this.scored;
    // Other reasons of a candidate are that of its values.
    dropped[Object.hasOwn(dropped, reason) ? (reason as keyof typeof dropped) : 'wrong-value'] += 1;
  }

  /** @throws RefusedRequest of the first wrong candidate if all are left out: then it is the request that is wrong. */
  #encoded(body: RankingBody, blocks: Int32Array, encoder: RequestEncoder): RankingRequest {
    const request = encoder.encode(body, blocks, (candidate, refusal) =>
      this.drop(body, candidate, refusal),
    );
    const first = [...body.dropped.values()].find(
      ({ reason }) => reason !== 'paused' && reason !== 'removed',
    );
    if (first !== undefined && body.dropped.size === body.candidateCount)
      throw new RefusedRequest(first);
    return request;
  }

  /** A score that is not finite says nothing, and would be first or nowhere. */
  #dropWithoutScore(body: RankingBody, { scores, variances, expected }: Estimates): void {
    for (let candidate = 0; candidate < scores.length; candidate += 1)
      if (!Number.isFinite(scores[candidate]))
        this.drop(body, candidate, {
          ...{ reason: 'not-finite', what: 'the score of a candidate is not finite' },
          ...{ where: `candidate ${candidate}`, found: String(scores[candidate]) },
          cure: 'look for numbers far outside of those that the bundle was trained on',
        });
    for (const candidate of body.dropped.keys())
      [scores[candidate], variances[candidate], expected[candidate]] = [NaN, 0, NaN];
  }

  #count(blocks: Int32Array, body: RankingBody): void {
    if (body === this.#lastCounted) return;
    this.#lastCounted = body;
    const { candidateCount, dropped } = body;
    for (const refusal of dropped.values()) this.#countDropped(refusal);
    this.scored.candidates += candidateCount;
    for (let candidate = 0; candidate < candidateCount; candidate += 1)
      if (int32At(blocks, candidate) === 0) this.scored.unknown += 1;
  }

  /**
   * Returns how much blocks and features add to the scores of some candidates, in the order of the places.
   *
   * @param places of candidates in the request, each once.
   */
  explanations(body: RankingBody, places: readonly number[]): readonly ScoreExplanation[] {
    const { blocks, hashes } = this.estimates(body);
    const { encoder, contextFeatures } = this.#sideOf(body);
    const asked = { request: this.#encoded(body, blocks, encoder), contextFeatures };
    const { model } = this.loaded;
    const byModel = new Map<RankingModel, ExplainedCandidate[]>();
    for (const place of places) {
      const hash = [uint32At(hashes, 2 * place), uint32At(hashes, 2 * place + 1)] as const;
      const scored = this.live.scoredBy(hash) ??
        this.#starts.scoredBy(place) ?? { model, block: int32At(blocks, place) };
      const candidates = byModel.get(scored.model) ?? [];
      byModel.set(scored.model, [...candidates, { place, block: scored.block }]);
    }
    const found = new Map<number, ScoreExplanation>();
    for (const [of, candidates] of byModel)
      for (const [index, explanation] of explanationsOf(of, asked, candidates, (each, names) =>
        this.#scorerOf(each, names),
      ).entries())
        found.set(at(candidates, index).place, explanation);
    return places.flatMap((place) => found.get(place) ?? []);
  }

  /** The encoder and the scorer of requests with these columns in the context. */
  #sideOf(body: RankingBody): EncodedSide {
    requireEachColumnOnce(body, this.loaded.manifest.taskColumns);
    const { context } = body;
    const features = this.loaded.encoder.features;
    let key = '';
    for (const { column } of features)
      key += column !== null && Object.hasOwn(context, column) ? 'c' : '-';
    const known = this.#sides.get(key);
    if (known !== undefined) return known;
    const names = withDerived(
      features.flatMap(({ name }, place) => (key[place] === 'c' ? [name] : [])),
      this.loaded.encoder,
    );
    const side = {
      encoder: new RequestEncoder(this.loaded, names, this.addon),
      scorer: this.#scorerOf(this.loaded.model, names),
      contextFeatures: names,
    };
    for (const evicted of this.#sides.put(key, side)) evicted.scorer.release();
    return side;
  }
}

interface EncodedSide {
  readonly encoder: RequestEncoder;
  readonly scorer: KernelScorer;
  readonly contextFeatures: readonly string[];
}

function requireEachColumnOnce(
  { context, features }: RankingBody,
  taskColumns: readonly string[],
): void {
  const twice = Object.keys(context).find(
    (name) => features.has(name) || taskColumns.includes(name),
  );
  if (twice === undefined) return;
  throw refusalOf('wrong-value', `the context has a column that the candidates have: "${twice}"`, {
    where: `context.${twice}`,
    cure: 'give each column once: to the context or to the candidates',
  });
}

function otherBundle(digest: string): RefusedRequest {
  return refusalOf('other-bundle', 'another bundle is served than the request names', {
    where: 'bundle',
    found: digest,
    cure: 'read the dictionaries of the bundle that is served, or send texts and name no bundle',
  });
}

/** Arrays with an element for each candidate. */
export interface Estimates {
  readonly candidateCount: number;
  /** `[candidateCount, 2]`: low and high word of the hash of the adgroup's key. */
  readonly hashes: Uint32Array;
  /** 0 for an unknown adgroup. */
  readonly blocks: Int32Array;
  /** The output of the scorer. */
  readonly scores: Float32Array;
  /** Of the scores before they were moderated; 0 where blocks have none. */
  readonly variances: Float32Array;
  /** The factor of a bid: the probability, or the expected value. */
  readonly expected: Float64Array;
  /** The place of the block's label in the manifest. */
  readonly labels: Int32Array;
  /** Candidates whose blocks adapted while serving; absent if there are none. */
  readonly live?: LiveCandidates;
  /** These, and unknown candidates whose blocks follow from their segments and attributes. */
  readonly notes?: LiveCandidates;
}

/** Candidates that there is room for at first. */
const ROOM_MIN = 512;

export class Estimator {
  readonly #bundle: Pick<LoadedBundle, 'manifest' | 'labels' | 'offsets'>;
  readonly #addon: Pick<ScoringAddon, 'calibrate'>;
  /** By label. */
  readonly #slopes: Float64Array;
  /** Numbers by label; the mean and the deviation of a probability are not read. */
  readonly #ofLabels: LabelNumbers;
  #room = allocateEstimates(ROOM_MIN);
  /** Views of the room, those of the last request: the next one has as many candidates, most often. */
  #last = allocateEstimates(0);

  constructor(
    bundle: Pick<LoadedBundle, 'manifest' | 'labels' | 'offsets'>,
    addon: Pick<ScoringAddon, 'calibrate'>,
  ) {
    this.#bundle = bundle;
    this.#addon = addon;
    this.#slopes = Float64Array.from(bundle.manifest.calibrations, ({ slope }) => slope);
    this.#ofLabels = labelNumbersOf(bundle.manifest.labels);
  }

  /** Arrays of this length, of which blocks, hashes and scores are to be filled. */
  begin(candidateCount: number): Estimates {
    if (candidateCount === this.#last.candidateCount) return this.#last;
    if (candidateCount > this.#room.candidateCount) this.#room = allocateEstimates(candidateCount);
    const { hashes, blocks, scores, variances, expected, labels } = this.#room;
    this.#last = {
      candidateCount,
      hashes: hashes.subarray(0, 2 * candidateCount),
      blocks: blocks.subarray(0, candidateCount),
      scores: scores.subarray(0, candidateCount),
      variances: variances.subarray(0, candidateCount),
      expected: expected.subarray(0, candidateCount),
      labels: labels.subarray(0, candidateCount),
    };
    return this.#last;
  }

  /** Fills in what follows from blocks and scores. */
  complete(estimates: Estimates, notes: LiveCandidates | null): void {
    const { candidateCount, expected, labels } = estimates;
    const { areAll, isProbability, means, deviations } = this.#ofLabels;
    this.#calibrate(estimates);
    for (const [candidate, { offset, label }] of notes ?? []) {
      const score = float32At(estimates.scores, candidate);
      const calibrated = float64At(this.#slopes, label) * score + offset;
      // The addon has taken the sigmoid of all others.
      expected[candidate] = areAll ? sigmoid(calibrated) : calibrated;
      labels[candidate] = label;
    }
    if (areAll) return;
    for (let candidate = 0; candidate < candidateCount; candidate += 1) {
      const calibrated = float64At(expected, candidate);
      const label = int32At(labels, candidate);
      expected[candidate] =
        uint8At(isProbability, label) === 1
          ? sigmoid(calibrated)
          : float64At(means, label) + float64At(deviations, label) * calibrated;
    }
  }

  /** Writes labels, and calibrated scores in place of what is expected; the addon their sigmoid where all are probabilities. */
  #calibrate({ blocks, scores, expected, labels }: Estimates): void {
    const ofBlocks = [this.#bundle.offsets, this.#bundle.labels] as const;
    const { areAll } = this.#ofLabels;
    this.#addon.calibrate(blocks, scores, ...ofBlocks, this.#slopes, areAll, labels, expected);
  }
}

interface LabelNumbers {
  /** True if all are probabilities. */
  readonly areAll: boolean;
  readonly isProbability: Uint8Array;
  readonly means: Float64Array;
  readonly deviations: Float64Array;
}

function labelNumbersOf(labels: LoadedBundle['manifest']['labels']): LabelNumbers {
  return {
    areAll: labels.every(({ loss }) => loss === 'binary'),
    isProbability: Uint8Array.from(labels, ({ loss }) => Number(loss === 'binary')),
    means: Float64Array.from(labels, (label) => (label.loss === 'binary' ? NaN : label.mean)),
    deviations: Float64Array.from(labels, (label) =>
      label.loss === 'binary' ? NaN : label.deviation,
    ),
  };
}

function allocateEstimates(candidateCount: number): Estimates {
  return {
    candidateCount,
    hashes: new Uint32Array(2 * candidateCount),
    blocks: new Int32Array(candidateCount),
    scores: new Float32Array(candidateCount),
    variances: new Float32Array(candidateCount),
    expected: new Float64Array(candidateCount),
    labels: new Int32Array(candidateCount),
  };
}
