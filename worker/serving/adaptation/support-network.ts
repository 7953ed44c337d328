/**
 * The logits of one adgroup's rows under personal blocks that move, and the gradient of their loss, in plain TypeScript
 * and double precision. What no block changes is computed once: field vectors, linear terms, and the first hidden
 * layer's sums over the fields of the rows.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { PaddedTables } from '../padded-tables.js';
import type { RankingRequest } from '../ranking-request.js';
import { denseOf, type Products, type ScoredField, type ScoringPlan } from '../scoring-plan.js';
import { addFieldGradient, productCountOf, writeProducts } from './field-products.js';

/** Values of the personal variables by name. */
export type MovingBlocks = ReadonlyMap<string, Float64Array>;

const NO_PRODUCTS: Products = { pairs: [], byField: [], hasOuter: false };

/** A fully connected layer `[inputWidth, width]`. */
interface Layer {
  readonly weight: string;
  readonly bias: string;
  readonly width: number;
  readonly isPersonal: boolean;
}

export class SupportNetwork {
  readonly rowCount: number;
  readonly #model: RankingModel;
  readonly #plan: ScoringPlan;
  readonly #layers: readonly Layer[];
  /** Fields that a personal block fills. */
  readonly #own: readonly {
    readonly place: number;
    readonly name: string;
    readonly hasLinear: boolean;
  }[];
  readonly #inputFields: readonly number[];
  readonly #inputProducts: Products;
  readonly #outputProducts: Products;
  /** `[rowCount][fieldCount, width]`; those of blocks are written before each pass. */
  readonly #vectors: readonly Float64Array[];
  readonly #linear: Float64Array;
  /** `[rowCount][width of the first layer]`; null where it is personal or there is none. */
  readonly #starts: readonly Float64Array[] | null;
  readonly #input: Float64Array;
  /** 1 for inputs of the tower that depend on a block. */
  readonly #isMoving: Uint8Array;
  readonly #hidden: readonly Float64Array[];
  readonly #outputs: Float64Array;

  /** @param rows the rows as candidates, without a context. */
  constructor(model: RankingModel, plan: ScoringPlan, rows: RankingRequest) {
    this.#model = model;
    this.#plan = plan;
    this.rowCount = rows.candidateCount;
    const { fields, embeddingWidth: width, tower, output } = plan;
    const personal = new Set(model.blocks.layout.parts.map(({ name }) => name));
    this.#layers = (tower?.hiddenWidths ?? []).map((layerWidth, layer) => {
      const [weight, bias] = [`layer${layer}.weight`, `layer${layer}.bias`];
      return { weight, bias, width: layerWidth, isPersonal: personal.has(weight) };
    });
    this.#own = fields.flatMap((field, place) =>
      field.source === 'block' ? [{ place, name: field.name, hasLinear: field.hasLinear }] : [],
    );
    this.#inputFields = tower?.input?.fields ?? [];
    this.#inputProducts = tower?.input?.products ?? NO_PRODUCTS;
    this.#outputProducts = output?.products ?? NO_PRODUCTS;
    this.#linear = new Float64Array(this.rowCount);
    const tables = new PaddedTables(model);
    this.#vectors = Array.from({ length: this.rowCount }, (_, row) => {
      const vectors = new Float64Array(fields.length * width);
      for (const [place, field] of fields.entries()) {
        const vector = vectors.subarray(place * width, (place + 1) * width);
        const linear = this.#fixed(field, { tables, rows, row }, vector);
        this.#linear[row] = float64At(this.#linear, row) + linear;
      }
      return vectors;
    });
    this.#input = new Float64Array(
      this.#inputFields.length * width + productCountOf(this.#inputProducts, plan),
    );
    this.#isMoving = new Uint8Array(this.#input.length).fill(1, this.#inputFields.length * width);
    for (const { place } of this.#own) {
      const first = this.#inputFields.indexOf(place);
      if (first >= 0) this.#isMoving.fill(1, first * width, (first + 1) * width);
    }
    this.#hidden = this.#layers.map((layer) => new Float64Array(layer.width));
    const towerWidth = this.#layers.at(-1)?.width ?? this.#input.length;
    this.#outputs = new Float64Array(
      (output?.hasTower === true ? towerWidth : 0) + productCountOf(this.#outputProducts, plan),
    );
    this.#starts = this.#startsOf();
  }

  /** Writes the vector of a field that no block fills, and returns its linear term. */
  #fixed(
    field: ScoredField,
    {
      tables,
      rows,
      row,
    }: {
      readonly tables: PaddedTables;
      readonly rows: RankingRequest;
      readonly row: number;
    },
    vector: Float64Array,
  ): number {
    const { request, hasLinear, embeddingWidth: width } = this.#plan;
    if (field.source === 'block') return 0;
    const { firstPlace, placeCount } = field.place;
    if (field.source === 'ids') {
      const from = row * request.idCounts.candidate + firstPlace;
      return tables.meanOf(field, rows.candidateIds.subarray(from, from + placeCount), vector);
    }
    const value = at(rows.candidateNumbers, row * request.numberCounts.candidate + firstPlace);
    if (width > 0) {
      const factors = denseOf(this.#model, 'numbers.factors');
      for (let k = 0; k < width; k += 1)
        vector[k] = value * (factors[field.number * width + k] ?? NaN);
    }
    return hasLinear ? value * at(denseOf(this.#model, 'numbers.linear'), field.number) : 0;
  }

  #startsOf(): readonly Float64Array[] | null {
    const [first] = this.#layers;
    if (first === undefined || first.isPersonal) return null;
    const weights = denseOf(this.#model, first.weight);
    const own = new Set(this.#own.map(({ place }) => place));
    const width = this.#plan.embeddingWidth;
    return this.#vectors.map((vectors) => {
      const sums = Float64Array.from(denseOf(this.#model, first.bias));
      for (const [place, field] of this.#inputFields.entries())
        if (!own.has(field))
          addProduct(
            vectors.subarray(field * width, (field + 1) * width),
            weights.subarray(place * width * first.width),
            sums,
          );
      return sums;
    });
  }

  #valuesOf(name: string, blocks: MovingBlocks): Float32Array | Float64Array {
    return blocks.get(name) ?? denseOf(this.#model, name);
  }

  /** The logit of each row; shifts are not part of it. */
  logits(blocks: MovingBlocks): Float64Array {
    return Float64Array.from({ length: this.rowCount }, (_, row) => this.#forward(row, blocks));
  }

  /**
   * Adds the gradient of the rows' loss to `gradients`.
   *
   * @param slopeOf the derivative of the loss with respect to the logit of a row.
   */
  addGradient(
    blocks: MovingBlocks,
    slopeOf: (row: number, logit: number) => number,
    gradients: MovingBlocks,
  ): void {
    for (let row = 0; row < this.rowCount; row += 1) {
      const slope = slopeOf(row, this.#forward(row, blocks));
      if (slope !== 0) this.#backward(row, slope, blocks, gradients);
    }
  }

  #forward(row: number, blocks: MovingBlocks): number {
    const { embeddingWidth: width, hasPairTerm, output } = this.#plan;
    const vectors = at(this.#vectors, row);
    let logit = float64At(this.#linear, row) + at(this.#valuesOf('bias', blocks), 0);
    for (const { place, name, hasLinear } of this.#own) {
      const values = this.#valuesOf(name, blocks);
      for (let k = 0; k < width; k += 1) vectors[place * width + k] = at(values, k);
      if (hasLinear) logit += at(values, width);
    }
    if (hasPairTerm) logit += this.#pairTerm(vectors);
    if (output === null) return logit;
    const towerWidth = output.hasTower ? this.#writeTower(row, blocks) : 0;
    writeProducts(this.#outputProducts, this.#plan, vectors, this.#outputs.subarray(towerWidth));
    const weights = this.#valuesOf('output.weight', blocks);
    for (let index = 0; index < this.#outputs.length; index += 1)
      logit += (this.#outputs[index] ?? NaN) * (weights[index] ?? NaN);
    return logit;
  }

  #pairTerm(vectors: Float64Array): number {
    const { embeddingWidth: width, factorised } = this.#plan;
    let twice = 0;
    for (let k = 0; k < width; k += 1) {
      let sum = 0;
      for (const field of factorised) {
        const value = float64At(vectors, field * width + k);
        sum += value;
        twice -= value * value;
      }
      twice += sum * sum;
    }
    return twice / 2;
  }

  /** Writes the last hidden layer, or the input where there is none, into the outputs. */
  #writeTower(row: number, blocks: MovingBlocks): number {
    const { embeddingWidth: width } = this.#plan;
    const vectors = at(this.#vectors, row);
    const fieldsEnd = this.#inputFields.length * width;
    for (const [place, field] of this.#inputFields.entries())
      this.#input.set(vectors.subarray(field * width, (field + 1) * width), place * width);
    writeProducts(this.#inputProducts, this.#plan, vectors, this.#input.subarray(fieldsEnd));
    let below = this.#input;
    for (const [place, layer] of this.#layers.entries()) {
      const sums = at(this.#hidden, place);
      const weights = this.#valuesOf(layer.weight, blocks);
      if (place === 0 && this.#starts !== null) {
        sums.set(at(this.#starts, row));
        for (const [first, field] of this.#inputFields.entries())
          if (this.#own.some((own) => own.place === field))
            addProduct(
              below.subarray(first * width, (first + 1) * width),
              weights.subarray(first * width * layer.width),
              sums,
            );
        addProduct(below.subarray(fieldsEnd), weights.subarray(fieldsEnd * layer.width), sums);
      } else {
        sums.set(this.#valuesOf(layer.bias, blocks));
        addProduct(below, weights, sums);
      }
      for (let j = 0; j < sums.length; j += 1) sums[j] = Math.max(0, sums[j] ?? NaN);
      below = sums;
    }
    this.#outputs.set(below);
    return below.length;
  }

  #backward(row: number, slope: number, blocks: MovingBlocks, gradients: MovingBlocks): void {
    const { embeddingWidth: width, hasPairTerm, factorised, output } = this.#plan;
    const vectors = at(this.#vectors, row);
    const add = (name: string, index: number, value: number): void => {
      const gradient = gradients.get(name);
      if (gradient !== undefined) gradient[index] = float64At(gradient, index) + value;
    };
    add('bias', 0, slope);
    const ofInput = output === null ? null : this.#backOutput(slope, blocks, gradients);
    for (const { place, name, hasLinear } of this.#own) {
      const gradient = gradients.get(name);
      if (gradient === undefined) continue;
      if (hasLinear) add(name, width, slope);
      if (hasPairTerm && factorised.includes(place))
        for (const other of factorised)
          if (other !== place)
            for (let k = 0; k < width; k += 1)
              gradient[k] = float64At(gradient, k) + slope * float64At(vectors, other * width + k);
      if (ofInput === null) continue;
      const own = { vectors, field: place };
      const products = { ...own, gradient: ofInput.products };
      addFieldGradient(this.#outputProducts, this.#plan, products, gradient);
      if (ofInput.tower === null) continue;
      const first = this.#inputFields.indexOf(place);
      if (first >= 0)
        for (let k = 0; k < width; k += 1)
          gradient[k] = float64At(gradient, k) + float64At(ofInput.tower, first * width + k);
      const rest = ofInput.tower.subarray(this.#inputFields.length * width);
      addFieldGradient(this.#inputProducts, this.#plan, { ...own, gradient: rest }, gradient);
    }
  }

  /** Goes back through the output and the hidden layers: gradients of the tower's input and of the products. */
  #backOutput(
    slope: number,
    blocks: MovingBlocks,
    gradients: MovingBlocks,
  ): { readonly tower: Float64Array | null; readonly products: Float64Array } {
    const weights = this.#valuesOf('output.weight', blocks);
    const ofWeights = gradients.get('output.weight');
    const ofOutputs = new Float64Array(this.#outputs.length);
    for (let index = 0; index < ofOutputs.length; index += 1) {
      ofOutputs[index] = slope * (weights[index] ?? NaN);
      if (ofWeights !== undefined)
        ofWeights[index] = float64At(ofWeights, index) + slope * float64At(this.#outputs, index);
    }
    const towerEnd = ofOutputs.length - productCountOf(this.#outputProducts, this.#plan);
    const products = ofOutputs.subarray(towerEnd);
    if (this.#plan.output?.hasTower !== true) return { tower: null, products };
    let above: Float64Array = ofOutputs.subarray(0, towerEnd);
    for (let place = this.#layers.length - 1; place >= 0; place -= 1) {
      const isNeeded =
        this.#own.length > 0 || this.#layers.slice(0, place + 1).some((each) => each.isPersonal);
      if (!isNeeded) return { tower: null, products };
      above = this.#backLayer(place, above, blocks, gradients);
    }
    return { tower: above, products };
  }

  #backLayer(
    place: number,
    above: Float64Array,
    blocks: MovingBlocks,
    gradients: MovingBlocks,
  ): Float64Array {
    const layer = at(this.#layers, place);
    const hidden = at(this.#hidden, place);
    const below = place === 0 ? this.#input : at(this.#hidden, place - 1);
    const weights = this.#valuesOf(layer.weight, blocks);
    const [ofWeight, ofBias] = [gradients.get(layer.weight), gradients.get(layer.bias)];
    const result = new Float64Array(below.length);
    // The derivative of ReLU, which TensorFlow takes to be 0 at 0.
    const active = above.map((value, j) => (float64At(hidden, j) > 0 ? value : 0));
    if (ofBias !== undefined)
      for (let j = 0; j < active.length; j += 1)
        ofBias[j] = float64At(ofBias, j) + float64At(active, j);
    for (let k = 0; k < below.length; k += 1) {
      const first = k * layer.width;
      const value = below[k] ?? NaN;
      if (place === 0 && ofWeight === undefined && this.#isMoving[k] === 0) continue;
      let sum = 0;
      for (let j = 0; j < active.length; j += 1)
        sum += (weights[first + j] ?? NaN) * (active[j] ?? NaN);
      result[k] = sum;
      if (ofWeight === undefined || value === 0) continue;
      for (let j = 0; j < active.length; j += 1)
        ofWeight[first + j] = (ofWeight[first + j] ?? NaN) + value * (active[j] ?? NaN);
    }
    return result;
  }
}

/** Adds `x` times the weights `[x.length, sums.length]` to the sums. */
function addProduct(
  x: Float64Array,
  weights: Float32Array | Float64Array,
  sums: Float64Array,
): void {
  const width = sums.length;
  for (let k = 0; k < x.length; k += 1) {
    const value = x[k] ?? NaN;
    if (value === 0) continue;
    const start = k * width;
    for (let j = 0; j < width; j += 1)
      sums[j] = (sums[j] ?? NaN) + value * (weights[start + j] ?? NaN);
  }
}
