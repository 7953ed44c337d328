/**
 * The support inputs of candidates (`shared/models/kinds/support-inputs.ts`): numbers that say what the
 * support rows of a candidate's adgroup have shown, read from the evidence of its block.
 */

import { at, float64At, int32At } from '../../shared/base/arrays.js';
import { placeOfId } from '../../shared/bundle/value-lists.js';
import type { RankingModel } from '../../shared/bundle/ranking-model.js';
import {
  NO_LABELS,
  type SupportFormulas,
  supportFormulasOf,
  type SupportInputs,
} from '../../shared/models/kinds/support-inputs.js';
import {
  layoutWithSupportInputs,
  requestLayoutOf,
  type FeaturePlace,
  type RankingRequest,
  type RequestLayout,
} from './ranking-request.js';

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
