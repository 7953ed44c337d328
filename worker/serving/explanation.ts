/**
 * Explanations of scores: what the adgroup's own block and each feature add to a logit. Features take their values one
 * after the other, in the order of the model and in the reverse, and a share is the mean of the two steps. Shares and the
 * base sum to the logit whatever the model is. Where the logit is a sum of terms of one or two features they are Shapley
 * values: terms of a feature alone are its own, and each of two features has half of their product.
 */

import { float32At } from '../../shared/base/arrays.js';
import type { RankingModel } from '../../shared/bundle/ranking-model.js';
import { VARIANCES } from '../../shared/methods/inner-loop/personal-blocks.js';
import { hasOutput } from '../../shared/models/kinds/model-definition.js';
import type { Scorer } from './kernel-scorer.js';
import { requestLayoutOf, type FeaturePlace, type RankingRequest } from './ranking-request.js';
import { scoringPlanOf, isCovered } from './scoring-plan.js';

/** A candidate of a request that is explained. */
export interface ExplainedCandidate {
  readonly place: number;
  /** In the model that scores it. */
  readonly block: number;
}

export interface ScoreExplanation {
  readonly score: number;
  /** The score under block 0 where nothing is known: unknown values, empty bags and mean numbers. */
  readonly base: number;
  /** The share of the block, in place of block 0. */
  readonly blockShare: number;
  /** By feature. */
  readonly shares: Readonly<Record<string, number>>;
}

/** Encoders write these for values of which nothing is known. */
const UNKNOWN_ID = 0;
const EMPTY_PLACE_ID = -1;
const MEAN_NUMBER = 0;

interface SidedPlace {
  readonly list: 'ids' | 'numbers';
  readonly from: FeaturePlace;
  readonly to: FeaturePlace;
  readonly isBag: boolean;
}

/**
 * Returns whether shares are Shapley values of the logit: it has no term that is not linear, and none of three things
 * that a block and features decide.
 */
export function hasExactShares(model: Pick<RankingModel, 'spec' | 'blocks'>): boolean {
  if (!isCovered(model)) return false;
  const { terms, fields } = scoringPlanOf(model, []);
  const isModerated = model.spec.ownVariables.some(({ name }) => name === VARIANCES);
  if (isModerated || terms.tower !== undefined || terms.cross !== undefined) return false;
  if (terms.hasPairSum !== true && !hasOutput(terms)) return true;
  const { variables, options } = model.spec;
  const isPersonal = variables.some(
    ({ name, block }) => name === 'output.weight' && block === 'personal',
  );
  const hasPersonalNumbers = fields.some((field) => field.source === 'number' && field.isPersonal);
  // A target encoding follows from the block and a value, so that its products are of three.
  const hasTargetEncodings = (options.supportInputs?.targetEncodings ?? []).length > 0;
  return !isPersonal && !hasPersonalNumbers && !hasTargetEncodings;
}

/**
 * @param contextFeatures of the request.
 * @param scorerOf makes a scorer, which is released at the end.
 */
export function explanationsOf(
  model: RankingModel,
  { request, contextFeatures }: ExplainedRequest,
  candidates: readonly ExplainedCandidate[],
  scorerOf: (model: RankingModel, contextFeatures: readonly string[]) => Scorer,
): ScoreExplanation[] {
  const places = sidedPlacesOf(model, contextFeatures);
  const partCount = places.length + 1;
  const scorer = scorerOf(model, []);
  try {
    const rows = new SteppedRows(model, { request, contextFeatures }, places);
    return candidates.map((candidate) => {
      const logits = new Float32Array(2 * partCount);
      scorer.score(rows.of(candidate), logits);
      return explanationIn(logits, places);
    });
  } finally {
    scorer.release();
  }
}

interface ExplainedRequest {
  readonly request: RankingRequest;
  readonly contextFeatures: readonly string[];
}

/** Where each feature lies in the request, and in one whose candidates have all of them. */
function sidedPlacesOf({ spec }: RankingModel, contextFeatures: readonly string[]): SidedPlace[] {
  const from = requestLayoutOf(spec, contextFeatures);
  const to = requestLayoutOf(spec, []);
  const bags = new Set(spec.bagFeatures.map(({ name }) => name));
  return (['ids', 'numbers'] as const).flatMap((list) =>
    to[list].map((place, index) => {
      const found = from[list][index];
      if (found === undefined) throw new Error('a feature has no place in the request');
      return { list, from: found, to: place, isBag: bags.has(place.name) };
    }),
  );
}

/** The rows between nothing and a candidate: the first half in the order of the parts, the rest in the reverse. */
class SteppedRows {
  readonly #request: RankingRequest;
  readonly #places: readonly SidedPlace[];
  readonly #fromCounts: ReturnType<typeof requestLayoutOf>;
  readonly #rows: RankingRequest;
  readonly #idCount: number;
  readonly #numberCount: number;

  constructor(
    { spec }: RankingModel,
    { request, contextFeatures }: ExplainedRequest,
    places: readonly SidedPlace[],
  ) {
    this.#request = request;
    this.#places = places;
    this.#fromCounts = requestLayoutOf(spec, contextFeatures);
    const { idCounts, numberCounts } = requestLayoutOf(spec, []);
    this.#idCount = idCounts.candidate;
    this.#numberCount = numberCounts.candidate;
    const candidateCount = 2 * (places.length + 1);
    this.#rows = {
      ...{ candidateCount, blocks: new Int32Array(candidateCount) },
      ...{ contextIds: new Int32Array(0), contextNumbers: new Float32Array(0) },
      candidateIds: new Int32Array(candidateCount * this.#idCount),
      candidateNumbers: new Float32Array(candidateCount * this.#numberCount),
    };
  }

  /** Valid until the next call. Part 0 is the block, part p + 1 the feature p. */
  of({ place, block }: ExplainedCandidate): RankingRequest {
    const partCount = this.#places.length + 1;
    // Rows 0 to partCount have that many of the first parts, those behind them 1 to partCount - 1 of the last.
    for (let row = 0; row < 2 * partCount; row += 1) {
      const isForward = row <= partCount;
      const count = isForward ? row : row - partCount;
      const has = (part: number): boolean => (isForward ? part < count : part >= partCount - count);
      this.#rows.blocks[row] = has(0) ? block : 0;
      for (const [index, sided] of this.#places.entries())
        this.#write(sided, row, has(index + 1) ? place : null);
    }
    return this.#rows;
  }

  /** @param candidate null writes that nothing is known. */
  #write({ list, from, to, isBag }: SidedPlace, row: number, candidate: number | null): void {
    const { placeCount } = to;
    const isIds = list === 'ids';
    const target = isIds ? this.#rows.candidateIds : this.#rows.candidateNumbers;
    const first = row * (isIds ? this.#idCount : this.#numberCount) + to.firstPlace;
    if (candidate === null) {
      const nothing = isIds ? (isBag ? EMPTY_PLACE_ID : UNKNOWN_ID) : MEAN_NUMBER;
      target.fill(nothing, first, first + placeCount);
      return;
    }
    const { contextIds, candidateIds, contextNumbers, candidateNumbers } = this.#request;
    const isOfContext = from.side === 'context';
    const counts = isIds ? this.#fromCounts.idCounts : this.#fromCounts.numberCounts;
    const start = isOfContext ? from.firstPlace : candidate * counts.candidate + from.firstPlace;
    const ofContext = isIds ? contextIds : contextNumbers;
    const source = isOfContext ? ofContext : isIds ? candidateIds : candidateNumbers;
    target.set(source.subarray(start, start + placeCount), first);
  }
}

function explanationIn(logits: Float32Array, places: readonly SidedPlace[]): ScoreExplanation {
  const partCount = places.length + 1;
  const [base, score] = [float32At(logits, 0), float32At(logits, partCount)];
  /** The logit with so many of the last parts. */
  const reverse = (count: number): number => {
    if (count === 0) return base;
    return count === partCount ? score : float32At(logits, partCount + count);
  };
  const shareOf = (part: number): number => {
    const forward = float32At(logits, part + 1) - float32At(logits, part);
    return (forward + reverse(partCount - part) - reverse(partCount - part - 1)) / 2;
  };
  return {
    ...{ score, base, blockShare: shareOf(0) },
    shares: Object.fromEntries(places.map(({ to }, index) => [to.name, shareOf(index + 1)])),
  };
}
