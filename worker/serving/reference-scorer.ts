/**
 * The logit of every candidate in plain TypeScript, in double precision: what the kernel and the
 * captured graph must agree with. The context is computed once for each request.
 */

import { at, float32At, float64At, int32At } from '../../shared/base/arrays.js';
import { blockBytes, readBlock } from '../../shared/bundle/block-codec.js';
import {
  type PersonalBlocks,
  type RankingModel,
  placeOfId,
} from '../../shared/bundle/ranking-model.js';
import { hasOutput, outputReadsCrossed } from '../../shared/models/kinds/model-definition.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { supportInputAdder, type RankingRequest, type Side } from './ranking-request.js';
import {
  denseOf,
  isOfContext,
  scoringPlanOf,
  type ResolvedProducts,
  type ScoredField,
  type ScoringPlan,
  tablesOf,
} from './scoring-plan.js';

type IdField = Extract<ScoredField, { source: 'ids' }>;

class PaddedTables {
  readonly #tables: ReturnType<typeof tablesOf>;
  readonly #isPadded: boolean;
  readonly #hasLinear: boolean;

  constructor(model: Pick<RankingModel, 'spec' | 'tables'>) {
    this.#tables = tablesOf(model);
    this.#isPadded = model.spec.options.padding === 'trained';
    this.#hasLinear = model.spec.hasLinear;
  }

  /**
   * The mean of the rows, an empty place of a bag counting as the last row of its table if that is
   * trained, and not at all otherwise. Writes the vector and returns the linear term.
   */
  meanOf({ table: index, isBag }: IdField, ids: Int32Array, vector: Float64Array): number {
    const { values, width: rowWidth, rowCount } = at(this.#tables, index);
    vector.fill(0);
    let linear = 0;
    let count = 0;
    for (let place = 0; place < ids.length; place += 1) {
      const id = int32At(ids, place);
      const row = id < 0 && isBag && this.#isPadded ? rowCount - 1 : id;
      if (row < 0 && isBag) continue;
      if (row < 0 || row >= rowCount)
        throw new RangeError(`there is no row ${row} among ${rowCount}`);
      count += 1;
      const first = row * rowWidth;
      for (let k = 0; k < vector.length; k += 1)
        vector[k] = (vector[k] ?? NaN) + (values[first + k] ?? NaN);
      if (this.#hasLinear) linear += float32At(values, first + rowWidth - 1);
    }
    if (count < 2) return linear;
    for (let k = 0; k < vector.length; k += 1) vector[k] = (vector[k] ?? NaN) / count;
    return linear / count;
  }
}

/** What the candidates of a request share. */
interface ContextPart {
  /** Linear terms. */
  readonly linear: number;
  /** The tower's first layer as far as the context decides it; null where the layer is personal. */
  readonly start: Float64Array | null;
}

const NOTHING = new Float64Array(0);
const EVERY = (): boolean => true;

export class ReferenceScorer {
  readonly #model: RankingModel;
  readonly #plan: ScoringPlan;
  readonly #withInputs: (request: RankingRequest) => RankingRequest;
  readonly #tables: PaddedTables;
  /** The variables of the candidate's block. */
  #own: NamedTensors = new Map();
  /** `[fieldCount, embeddingWidth]` */
  readonly #vectors: Float64Array;
  /** The outputs of the hidden layers. */
  readonly #hidden: readonly Float64Array[];
  readonly #isOfCandidate: (field: number) => boolean;
  readonly #contextFields: readonly number[];
  readonly #candidateFields: readonly number[];

  constructor(model: RankingModel, contextFeatures: readonly string[]) {
    this.#model = model;
    this.#plan = scoringPlanOf(model, contextFeatures);
    this.#withInputs = supportInputAdder(model, contextFeatures);
    this.#tables = new PaddedTables(model);
    const { fields, embeddingWidth } = this.#plan;
    this.#vectors = new Float64Array(fields.length * embeddingWidth);
    const { terms, hiddenWidths } = this.#plan;
    this.#hidden = (terms.tower === undefined ? [] : hiddenWidths).map(
      (width) => new Float64Array(width),
    );
    const places = [...fields.keys()];
    this.#contextFields = places.filter((field) => isOfContext(this.#plan, field));
    this.#isOfCandidate = (field) => !isOfContext(this.#plan, field);
    this.#candidateFields = places.filter(this.#isOfCandidate);
  }

  score(given: RankingRequest, logits: Float32Array): void {
    const request = this.#withInputs(given);
    const context = this.#contextPart(request);
    for (let candidate = 0; candidate < request.candidateCount; candidate += 1)
      logits[candidate] = this.#logitOf(request, candidate, context);
  }

  #contextPart(request: RankingRequest): ContextPart {
    const linear = this.#fill(this.#contextFields, request, 0);
    const isOverFields = this.#plan.terms.tower?.over === 'fields';
    if (
      !isOverFields ||
      this.#hidden.length === 0 ||
      this.#model.blocks.layout.parts.some(({ name }) => name === 'layer0.weight')
    )
      return { linear, start: null };
    const start = Float64Array.from(denseOf(this.#model, 'layer0.bias'));
    const weights = denseOf(this.#model, 'layer0.weight');
    this.#addFields(start, weights, (field) => isOfContext(this.#plan, field));
    return { linear, start };
  }

  #logitOf(request: RankingRequest, candidate: number, context: ContextPart): number {
    const block = int32At(request.blocks, candidate);
    const plan = this.#plan;
    const { blocks, dense } = this.#model;
    const own = { layout: blocks.layout, initial: dense };
    const { variables, level } = readBlock(own, blockBytes(blocks, block));
    this.#own = variables;
    let logit = float32At(this.#variable('bias'), 0) + level;
    logit += valueShift(blocks, plan, request, { block, candidate });
    logit += context.linear + this.#fill(this.#candidateFields, request, candidate);
    if (plan.terms.hasPairSum === true) logit += this.#pairTerm();
    if (!hasOutput(plan.terms)) return logit;
    const crossed = this.#crossed();
    const pieces = [
      ...(outputReadsCrossed(plan.terms) ? [crossed] : []),
      this.#tower(context, crossed),
      this.#products(plan.weighedProducts),
    ];
    const weights = this.#variable('output.weight');
    let row = 0;
    for (const piece of pieces) {
      for (let index = 0; index < piece.length; index += 1)
        logit += (piece[index] ?? NaN) * (weights[row + index] ?? NaN);
      row += piece.length;
    }
    return logit;
  }

  /** A variable of the candidate's block, or one that all share. */
  #variable(name: string): Float32Array {
    return this.#own.get(name)?.values ?? denseOf(this.#model, name);
  }

  /** Writes the vectors of some fields and returns the sum of their linear terms. */
  #fill(places: readonly number[], request: RankingRequest, candidate: number): number {
    let linear = 0;
    for (const place of places) linear += this.#fillField(place, request, candidate);
    return linear;
  }

  #fillField(place: number, request: RankingRequest, candidate: number): number {
    const field = at(this.#plan.fields, place);
    const { embeddingWidth: width, hasLinear, request: layout } = this.#plan;
    const vector = this.#vectors.subarray(place * width, (place + 1) * width);
    if (field.source === 'block') {
      const values = this.#variable(field.name);
      for (let k = 0; k < width; k += 1) vector[k] = values[k] ?? NaN;
      return field.hasLinear ? at(values, width) : 0;
    }
    const { side, firstPlace, placeCount } = field.place;
    const rowOf = (counts: Readonly<Record<Side, number>>): number =>
      side === 'context' ? firstPlace : candidate * counts.candidate + firstPlace;
    if (field.source === 'ids') {
      const ids = side === 'context' ? request.contextIds : request.candidateIds;
      const from = rowOf(layout.idCounts);
      return this.#tables.meanOf(field, ids.subarray(from, from + placeCount), vector);
    }
    const numbers = side === 'context' ? request.contextNumbers : request.candidateNumbers;
    const value = at(numbers, rowOf(layout.numberCounts));
    const factors = width === 0 ? [] : this.#variable('numbers.factors');
    for (let k = 0; k < width; k += 1)
      vector[k] = value * (factors[field.number * width + k] ?? NaN);
    return hasLinear ? value * at(this.#variable('numbers.linear'), field.number) : 0;
  }

  #pairTerm(): number {
    const { embeddingWidth: width, factorised } = this.#plan;
    let twice = 0;
    for (let k = 0; k < width; k += 1) {
      let sum = 0;
      for (let f = 0; f < factorised.length; f += 1) {
        const value = this.#vectors[(factorised[f] ?? 0) * width + k] ?? NaN;
        sum += value;
        twice -= value * value;
      }
      twice += sum * sum;
    }
    return twice / 2;
  }

  /** Cross layers' output; empty without them. */
  #crossed(): Float64Array {
    const { cross } = this.#plan.terms;
    if (cross === undefined) return NOTHING;
    const { rank } = cross;
    const input = this.#vectors;
    let crossed = Float64Array.from(input);
    for (let layer = 0; layer < cross.layerCount; layer += 1) {
      const name = `cross${layer}`;
      const compressed =
        rank === undefined
          ? crossed
          : product(crossed, denseOf(this.#model, `${name}.compress`), new Float64Array(rank));
      const weights = denseOf(this.#model, `${name}.${rank === undefined ? 'weight' : 'expand'}`);
      const factors = product(
        compressed,
        weights,
        Float64Array.from(denseOf(this.#model, `${name}.bias`)),
      );
      crossed = crossed.map(
        (value, index) => value + float64At(input, index) * float64At(factors, index),
      );
    }
    return crossed;
  }

  /** The last hidden layer; the tower's input if it has none. */
  #tower({ start }: ContextPart, crossed: Float64Array): Float64Array {
    const { terms, towerFields, towerProducts, embeddingWidth: width } = this.#plan;
    if (terms.tower === undefined) return NOTHING;
    const isOverFields = terms.tower.over === 'fields';
    let hidden = crossed;
    for (const [layer, sums] of this.#hidden.entries()) {
      const weights = this.#variable(`layer${layer}.weight`);
      const isStarted = layer === 0 && start !== null;
      sums.set(isStarted ? start : this.#variable(`layer${layer}.bias`));
      if (layer > 0 || !isOverFields) product(hidden, weights, sums);
      else this.#addInput(sums, weights, isStarted ? this.#isOfCandidate : EVERY);
      for (let j = 0; j < sums.length; j += 1) sums[j] = Math.max(0, sums[j] ?? NaN);
      hidden = sums;
    }
    if (this.#hidden.length > 0 || !isOverFields) return hidden;
    const vectors = towerFields.flatMap((f) => [
      ...this.#vectors.subarray(f * width, (f + 1) * width),
    ]);
    return Float64Array.from([...vectors, ...this.#products(towerProducts)]);
  }

  /** Adds the products of the tower's input with the first layer's weights. */
  #addInput(sums: Float64Array, weights: Float32Array, isWanted: (field: number) => boolean): void {
    this.#addFields(sums, weights, isWanted);
    const { towerFields, towerProducts, embeddingWidth } = this.#plan;
    const firstRow = towerFields.length * embeddingWidth;
    product(this.#products(towerProducts), weights.subarray(firstRow * sums.length), sums);
  }

  /** Adds the products of some fields of the tower's input with their weights. */
  #addFields(
    sums: Float64Array,
    weights: Float32Array,
    isWanted: (field: number) => boolean,
  ): void {
    const width = this.#plan.embeddingWidth;
    for (const [place, field] of this.#plan.towerFields.entries()) {
      if (!isWanted(field)) continue;
      const vector = this.#vectors.subarray(field * width, (field + 1) * width);
      product(vector, weights.subarray(place * width * sums.length), sums);
    }
  }

  #products({ pairs, byField, hasOuter }: ResolvedProducts): Float64Array {
    if (pairs.length + byField.length === 0 && !hasOuter) return NOTHING;
    const { embeddingWidth: width, fields, factorised } = this.#plan;
    const vectorOf = (field: number): Float64Array =>
      this.#vectors.subarray(field * width, (field + 1) * width);
    const sumOf = (places: Iterable<number>): Float64Array => {
      const sum = new Float64Array(width);
      for (const place of places)
        for (const [k, value] of vectorOf(place).entries()) sum[k] = float64At(sum, k) + value;
      return sum;
    };
    const all = sumOf(fields.keys());
    const outer = hasOuter ? sumOf(factorised) : NOTHING;
    return Float64Array.from([
      ...pairs.map(([f, g]) => dot(vectorOf(f), vectorOf(g))),
      ...byField.map((f) => dot(vectorOf(f), all) - dot(vectorOf(f), vectorOf(f))),
      ...[...outer].flatMap((a) => [...outer].map((b) => a * b)),
    ]);
  }
}

/** Adds `x` times the weights `[x.length, sums.length]` to the sums. */
function product(x: Float64Array, weights: Float32Array, sums: Float64Array): Float64Array {
  const width = sums.length;
  for (let k = 0; k < x.length; k += 1) {
    const value = x[k] ?? NaN;
    // Half of the outputs of a layer with ReLU.
    if (value === 0) continue;
    const first = k * width;
    for (let j = 0; j < width; j += 1)
      sums[j] = (sums[j] ?? NaN) + value * (weights[first + j] ?? NaN);
  }
  return sums;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < a.length; k += 1) sum += (a[k] ?? NaN) * (b[k] ?? NaN);
  return sum;
}

function valueShift(
  { effects }: Pick<PersonalBlocks, 'effects'>,
  { shifted, request: layout }: Pick<ScoringPlan, 'shifted' | 'request'>,
  { contextIds, candidateIds }: RankingRequest,
  { block, candidate }: { readonly block: number; readonly candidate: number },
): number {
  if (effects === null) return 0;
  let shift = 0;
  for (const [feature, { side, firstPlace }] of shifted.entries()) {
    const id =
      side === 'context'
        ? at(contextIds, firstPlace)
        : at(candidateIds, candidate * layout.idCounts.candidate + firstPlace);
    const entry = placeOfId(effects, { block, feature, id });
    if (entry >= 0) shift += at(effects.effects, entry);
  }
  return shift;
}
