/** A request as scorers read it: one context and its candidates, features encoded. */

import {
  supportInputNames,
  NO_LABELS,
  type SupportFormulas,
  supportFormulasOf,
  type SupportInputs,
} from '../../shared/models/kinds/support-inputs.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { at, float64At, int32At, float32At } from '../../shared/base/arrays.js';
import { placeOfId, type RankingModel } from '../../shared/bundle/ranking-model.js';
import type { EncodedRows } from '../../shared/features/row-encoder.js';

/**
 * Features of the context come once, those of the candidates once for each. Ids are those of category
 * features in the order of the spec, then of bags, each at `lengthMax` places of which -1 is empty.
 * Numbers are those of the data. Arrays may be longer than a request needs, so that they can be reused.
 */
export interface RankingRequest {
  readonly candidateCount: number;
  /** `[candidateCount]`: the block of each candidate's adgroup; 0 for an unknown one. */
  readonly blocks: Int32Array;
  readonly contextIds: Int32Array;
  /** `[candidateCount, candidateIdCount]` */
  readonly candidateIds: Int32Array;
  readonly contextNumbers: Float32Array;
  /** `[candidateCount, candidateNumberCount]` */
  readonly candidateNumbers: Float32Array;
}

type Side = 'context' | 'candidate';

/** Where a feature lies among the ids or the numbers of its side. */
export interface FeaturePlace {
  readonly name: string;
  readonly side: Side;
  readonly firstPlace: number;
  /** 1, or the places of a bag. */
  readonly placeCount: number;
}

export interface RequestLayout {
  /** Category features, then bags, in the order of the spec. */
  readonly ids: readonly FeaturePlace[];
  readonly numbers: readonly FeaturePlace[];
  readonly idCounts: Readonly<Record<Side, number>>;
  readonly numberCounts: Readonly<Record<Side, number>>;
}

export function requestLayoutOf(
  spec: ModelSpec,
  contextFeatures: readonly string[],
): RequestLayout {
  const { numberFeatures, options } = spec;
  const ofData = numberFeatures.length - supportInputNames(options.supportInputs).length;
  return layoutOf({ ...spec, numberFeatures: numberFeatures.slice(0, ofData) }, contextFeatures);
}

/** The layout with support inputs, which lie behind the numbers of each candidate. */
export function layoutWithSupportInputs(
  spec: ModelSpec,
  contextFeatures: readonly string[],
): RequestLayout {
  return layoutOf(spec, contextFeatures);
}

function layoutOf(
  { categoryFeatures, bagFeatures, numberFeatures }: ModelSpec,
  contextFeatures: readonly string[],
): RequestLayout {
  const ids = placesOf(contextFeatures, [
    ...categoryFeatures.map((name) => ({ name, lengthMax: 1 })),
    ...bagFeatures,
  ]);
  const numbers = placesOf(
    contextFeatures,
    numberFeatures.map((name) => ({ name, lengthMax: 1 })),
  );
  return {
    ...{ ids: ids.places, idCounts: ids.counts },
    ...{ numbers: numbers.places, numberCounts: numbers.counts },
  };
}

function placesOf(
  contextFeatures: readonly string[],
  features: readonly { readonly name: string; readonly lengthMax: number }[],
): { readonly places: readonly FeaturePlace[]; readonly counts: Readonly<Record<Side, number>> } {
  const counts = { context: 0, candidate: 0 };
  const places = features.map(({ name, lengthMax }): FeaturePlace => {
    const side = contextFeatures.includes(name) ? 'context' : 'candidate';
    const firstPlace = counts[side];
    counts[side] += lengthMax;
    return { name, side, firstPlace, placeCount: lengthMax };
  });
  return { places, counts };
}

type SupportModel = Pick<RankingModel, 'spec' | 'blocks'>;
type AddInputs = (request: RankingRequest) => RankingRequest;

const UNCHANGED: AddInputs = (request) => request;

/** Returns what puts the support inputs of the model behind the numbers of each candidate. */
export function supportInputAdder(
  model: SupportModel,
  contextFeatures: readonly string[],
): AddInputs {
  const { supportInputs } = model.spec.options;
  if (supportInputs === undefined) return UNCHANGED;
  const adder = new SupportInputAdder(model, contextFeatures, supportInputs);
  return (request) => adder.withInputs(request);
}

class SupportInputAdder {
  readonly #blocks: RankingModel['blocks'];
  readonly #inputs: SupportInputs;
  readonly #layout: RequestLayout;
  readonly #dataCount: number;
  /** Where the ids of the features with target encodings are. */
  readonly #encoded: readonly FeaturePlace[];
  readonly #ofClicks: SupportFormulas;
  readonly #ofValues: SupportFormulas;
  #numbers = new Float32Array(0);

  constructor(
    { spec, blocks }: SupportModel,
    contextFeatures: readonly string[],
    inputs: SupportInputs,
  ) {
    this.#blocks = blocks;
    this.#inputs = inputs;
    this.#layout = layoutWithSupportInputs(spec, contextFeatures);
    this.#dataCount = requestLayoutOf(spec, contextFeatures).numberCounts.candidate;
    this.#encoded = inputs.targetEncodings.map((feature) =>
      at(this.#layout.ids, spec.categoryFeatures.indexOf(feature)),
    );
    this.#ofClicks = supportFormulasOf(inputs, false);
    this.#ofValues = supportFormulasOf(inputs, true);
  }

  /** The request with an array of numbers that is valid until the next call. */
  withInputs(request: RankingRequest): RankingRequest {
    const { candidateCount, candidateNumbers } = request;
    const stride = this.#layout.numberCounts.candidate;
    const [dataCount, room] = [this.#dataCount, candidateCount * stride];
    if (candidateNumbers.length < candidateCount * dataCount)
      throw new RangeError('an array of the request is too short');
    if (this.#numbers.length < room) this.#numbers = new Float32Array(room);
    const numbers = this.#numbers;
    for (let candidate = 0; candidate < candidateCount; candidate += 1) {
      const first = candidate * stride;
      for (let place = 0; place < dataCount; place += 1)
        numbers[first + place] = candidateNumbers[candidate * dataCount + place] ?? NaN;
      this.#write(request, candidate, numbers.subarray(first + dataCount, first + stride));
    }
    return { ...request, candidateNumbers: numbers };
  }

  #write(request: RankingRequest, candidate: number, target: Float32Array): void {
    const block = int32At(request.blocks, candidate);
    const { evidence, isOfValues, blockCount } = this.#blocks;
    if (block < 0 || block >= blockCount) throw new RangeError('there is no block of this number');
    const formulas = isOfValues[block] === 1 ? this.#ofValues : this.#ofClicks;
    const impressions = float64At(evidence.impressions, block);
    const mean = formulas.meanOf({ clicks: float64At(evidence.clicks, block), impressions });
    let place = 0;
    if (this.#inputs.clickRate) target[place++] = formulas.clickRate(mean);
    if (this.#inputs.count) target[place++] = formulas.count(impressions);
    for (const [feature, { side, firstPlace }] of this.#encoded.entries()) {
      const id =
        side === 'context'
          ? int32At(request.contextIds, firstPlace)
          : int32At(request.candidateIds, candidate * this.#layout.idCounts.candidate + firstPlace);
      target[place++] = formulas.targetEncoding(this.#sumsOf(block, feature, id), mean);
    }
  }

  #sumsOf(block: number, feature: number, id: number) {
    const { byValue, live } = this.#blocks.evidence;
    if (live !== undefined) return live.get(block)?.[feature]?.get(id) ?? NO_LABELS;
    const entry = byValue === null ? -1 : placeOfId(byValue, { block, feature, id });
    if (byValue === null || entry < 0) return NO_LABELS;
    return {
      clicks: float64At(byValue.clicks, entry),
      impressions: float64At(byValue.impressions, entry),
    };
  }
}

/**
 * @param blocks of the rows, `[rowCount]`.
 * @param layout with support inputs if the numbers of the rows have them.
 */
export function requestOfRows(
  spec: ModelSpec,
  rows: EncodedRows,
  blocks: Int32Array,
  layout = requestLayoutOf(spec, []),
): RankingRequest {
  const { rowCount } = rows;
  const { idCounts, numberCounts } = layout;
  const candidateIds = new Int32Array(rowCount * idCounts.candidate);
  const candidateNumbers = new Float32Array(rowCount * numberCounts.candidate);
  const featureIds = [...rows.categoryIds, ...rows.bagIds];
  const eachPlace = (
    { firstPlace, placeCount }: FeaturePlace,
    stride: number,
    write: (target: number, source: number) => void,
  ): void => {
    for (let row = 0; row < rowCount; row += 1)
      for (let place = 0; place < placeCount; place += 1)
        write(row * stride + firstPlace + place, row * placeCount + place);
  };
  for (const [feature, place] of layout.ids.entries()) {
    const ids = at(featureIds, feature);
    eachPlace(place, idCounts.candidate, (target, source) => {
      candidateIds[target] = int32At(ids, source);
    });
  }
  for (const [feature, place] of layout.numbers.entries()) {
    const numbers = at(rows.numbers, feature);
    eachPlace(place, numberCounts.candidate, (target, source) => {
      candidateNumbers[target] = float32At(numbers, source);
    });
  }
  return {
    ...{ candidateCount: rowCount, blocks, candidateIds, candidateNumbers },
    ...{ contextIds: new Int32Array(0), contextNumbers: new Float32Array(0) },
  };
}
