/**
 * The hidden layers on all rows at once, and their gradient. What no block changes is computed once: the layers below
 * the first one that moves, or the first layer's sums over the fields of the rows.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { Products, ScoringPlan } from '../scoring-plan.js';
import type { AddProduct } from '../dense-product.js';
import { addFieldGradient, productCountOf, writeProducts } from './field-products.js';
import type { MovingBlocks, SupportRows } from './support-rows.js';

/** A fully connected layer `[inputWidth, width]`. */
interface Layer {
  readonly weight: string;
  readonly bias: string;
  readonly inputWidth: number;
  readonly width: number;
  readonly isPersonal: boolean;
}

interface TowerTerms {
  readonly rows: SupportRows;
  readonly plan: ScoringPlan;
  readonly isPersonal: (variable: string) => boolean;
  readonly addProduct: AddProduct;
}

const NO_PRODUCTS: Products = { pairs: [], byField: [], hasOuter: false };

export class SupportTower {
  /** Of the last layer, or of the input where there is no layer. */
  readonly width: number;
  readonly #terms: TowerTerms;
  readonly #layers: readonly Layer[];
  /** Null where the cross layers' output is the input. */
  readonly #inputFields: readonly number[] | null;
  readonly #products: Products;
  readonly #productCount: number;
  /** `[rowCount, fields of the input, embeddingWidth]`; those of blocks are 0 until a pass. */
  readonly #fieldInputs: Float64Array;
  readonly #productInputs: Float64Array;
  readonly #hidden: readonly Float64Array[];
  /** The first layer that differs from pass to pass. */
  readonly #firstMoving: number;
  /** `[rowCount, width of the first layer]`; null where the layer is personal, or no field is known before. */
  readonly #start: Float64Array | null;
  #isFixedDone = false;
  /** Of the last pass. */
  #crossed: Float64Array | null = null;

  constructor(terms: TowerTerms, tower: NonNullable<ScoringPlan['tower']>) {
    this.#terms = terms;
    const { rows, plan, isPersonal } = terms;
    const { embeddingWidth, fields } = plan;
    this.#inputFields = tower.input?.fields ?? null;
    this.#products = tower.input?.products ?? NO_PRODUCTS;
    this.#productCount = productCountOf(this.#products, plan);
    const fieldWidth = (this.#inputFields?.length ?? fields.length) * embeddingWidth;
    this.#fieldInputs = new Float64Array(rows.rowCount * fieldWidth);
    this.#productInputs = new Float64Array(rows.rowCount * this.#productCount);
    const inputWidth = fieldWidth + this.#productCount;
    this.#layers = tower.hiddenWidths.map((width, layer) => ({
      ...{ weight: `layer${layer}.weight`, bias: `layer${layer}.bias`, width },
      inputWidth: tower.hiddenWidths[layer - 1] ?? inputWidth,
      isPersonal: isPersonal(`layer${layer}.weight`),
    }));
    this.width = this.#layers.at(-1)?.width ?? inputWidth;
    this.#hidden = this.#layers.map(({ width }) => new Float64Array(rows.rowCount * width));
    const moving = this.#layers.findIndex((layer) => layer.isPersonal);
    this.#firstMoving = rows.own.length > 0 ? 0 : moving < 0 ? this.#layers.length : moving;
    this.#placeFields((place) => !rows.own.some((own) => own.place === place));
    this.#start = this.#startOf();
  }

  get #fieldWidth(): number {
    const { plan } = this.#terms;
    return (this.#inputFields ?? plan.fields).length * plan.embeddingWidth;
  }

  /**
   * The last layer's output, `[rowCount, width]`.
   *
   * @param crossed of the cross layers, where the tower reads it.
   */
  forward(blocks: MovingBlocks, crossed: Float64Array | null): Float64Array {
    const { rows } = this.#terms;
    this.#crossed = crossed;
    if (this.#inputFields !== null && (rows.own.length > 0 || !this.#isFixedDone))
      this.#placeMovingInputs();
    if (this.#layers.length === 0) return this.#inputs();
    const first = this.#isFixedDone ? this.#firstMoving : 0;
    for (let place = first; place < this.#layers.length; place += 1) this.#pass(place, blocks);
    this.#isFixedDone = true;
    return at(this.#hidden, this.#layers.length - 1);
  }

  /**
   * Adds what the gradient is for the personal variables and for the fields of blocks.
   *
   * @param ofOutput `[rowCount, width]`, which is written over.
   * @returns the gradient of the cross layers' output, where the tower reads it and a block needs it.
   */
  backward(
    ofOutput: Float64Array,
    blocks: MovingBlocks,
    gradients: MovingBlocks,
  ): Float64Array | null {
    const { rows } = this.#terms;
    let above = ofOutput;
    for (let place = this.#layers.length - 1; place >= this.#firstMoving; place -= 1) {
      const layer = at(this.#layers, place);
      // The derivative of ReLU, which TensorFlow takes to be 0 at 0.
      const hidden = at(this.#hidden, place);
      for (let index = 0; index < hidden.length; index += 1)
        if ((hidden[index] ?? NaN) <= 0) above[index] = 0;
      if (layer.isPersonal) this.#addLayerGradient(place, above, gradients);
      if (place === 0) {
        if (rows.own.length === 0) return null;
        return this.#backInput(layer, above, blocks, gradients);
      }
      if (place > this.#firstMoving) above = this.#below(layer, above, blocks);
    }
    if (this.#layers.length > 0 || rows.own.length === 0) return null;
    if (this.#crossed !== null) return above;
    this.#addInputGradient(above, gradients);
    return null;
  }

  #placeFields(isWanted: (field: number) => boolean): void {
    const { rows, plan } = this.#terms;
    const { embeddingWidth: width } = plan;
    if (this.#inputFields === null) return;
    for (const [place, field] of this.#inputFields.entries()) {
      if (!isWanted(field)) continue;
      for (let row = 0; row < rows.rowCount; row += 1) {
        const from = (row * plan.fields.length + field) * width;
        const vector = rows.vectors.subarray(from, from + width);
        this.#fieldInputs.set(vector, row * this.#fieldWidth + place * width);
      }
    }
  }

  #placeMovingInputs(): void {
    const { rows, plan } = this.#terms;
    this.#placeFields((field) => rows.own.some((own) => own.place === field));
    const count = this.#productCount;
    if (count === 0) return;
    for (let row = 0; row < rows.rowCount; row += 1) {
      const target = this.#productInputs.subarray(row * count, (row + 1) * count);
      writeProducts(this.#products, plan, rows.vectorsOf(row), target);
    }
  }

  #startOf(): Float64Array | null {
    const [first] = this.#layers;
    if (this.#inputFields === null || first === undefined || first.isPersonal) return null;
    const { rows, addProduct } = this.#terms;
    const start = this.#biases(first, new Map());
    addProduct({
      ...{ first: this.#fieldInputs, second: rows.frozen(first.weight), target: start },
      ...{ rows: rows.rowCount, inner: this.#fieldWidth, columns: first.width },
    });
    return start;
  }

  #biases({ bias, width }: Layer, blocks: MovingBlocks): Float64Array {
    const { rows } = this.#terms;
    const sums = new Float64Array(rows.rowCount * width);
    for (let row = 0; row < rows.rowCount; row += 1)
      sums.set(rows.valuesOf(bias, blocks), row * width);
    return sums;
  }

  /** Writes the output of a layer from that of the layer below. */
  #pass(place: number, blocks: MovingBlocks): void {
    const { rows, addProduct } = this.#terms;
    const layer = at(this.#layers, place);
    const weights = rows.valuesOf(layer.weight, blocks);
    const extents = { rows: rows.rowCount, columns: layer.width };
    const isStarted = place === 0 && this.#start !== null;
    const target = isStarted ? this.#started(layer, weights) : this.#biases(layer, blocks);
    if (place > 0) {
      const first = at(this.#hidden, place - 1);
      addProduct({ first, second: weights, target, ...extents, inner: layer.inputWidth });
    } else {
      const fieldWidth = this.#fieldWidth;
      const first = this.#crossed ?? this.#fieldInputs;
      if (!isStarted) addProduct({ first, second: weights, target, ...extents, inner: fieldWidth });
      if (this.#productCount > 0)
        addProduct({
          ...{ first: this.#productInputs, second: weights.subarray(fieldWidth * layer.width) },
          ...{ target, ...extents, inner: this.#productCount },
        });
    }
    const hidden = at(this.#hidden, place);
    for (let index = 0; index < target.length; index += 1)
      hidden[index] = Math.max(0, target[index] ?? NaN);
  }

  /** The first layer's sums over the fields: those of blocks are the same in every row. */
  #started({ width }: Layer, weights: Float64Array): Float64Array {
    const { rows, addProduct } = this.#terms;
    const sums = (this.#start ?? new Float64Array()).slice();
    const ofOwn = new Float64Array(width);
    for (const { column, vector } of this.#ownInputs())
      addProduct({
        ...{ first: vector, second: weights.subarray(column * width), target: ofOwn },
        ...{ rows: 1, inner: vector.length, columns: width },
      });
    if (rows.own.length === 0) return sums;
    for (let row = 0; row < rows.rowCount; row += 1)
      for (let j = 0; j < width; j += 1)
        sums[row * width + j] = (sums[row * width + j] ?? NaN) + (ofOwn[j] ?? NaN);
    return sums;
  }

  /** Fields of blocks among the inputs, with the column where each begins. */
  #ownInputs(): {
    readonly name: string;
    readonly column: number;
    readonly vector: Float64Array;
  }[] {
    const { rows, plan } = this.#terms;
    const { embeddingWidth: width } = plan;
    return rows.own.flatMap(({ place, name }) => {
      const input = this.#inputFields?.indexOf(place) ?? -1;
      const vector = rows.vectors.subarray(place * width, (place + 1) * width);
      return input < 0 || rows.rowCount === 0 ? [] : [{ name, column: input * width, vector }];
    });
  }

  #addLayerGradient(place: number, ofSums: Float64Array, gradients: MovingBlocks): void {
    const { rows, addProduct } = this.#terms;
    const { weight, bias, width, inputWidth } = at(this.#layers, place);
    const [ofWeight, ofBias] = [gradients.get(weight), gradients.get(bias)];
    if (ofBias !== undefined) addSums(ofSums, width, ofBias);
    if (ofWeight === undefined) return;
    const common = {
      ...{ second: ofSums, inner: rows.rowCount, columns: width, isFirstTransposed: true },
    };
    if (place > 0) {
      const first = at(this.#hidden, place - 1);
      return addProduct({ ...common, first, target: ofWeight, rows: inputWidth });
    }
    const first = this.#crossed ?? this.#fieldInputs;
    addProduct({ ...common, first, target: ofWeight, rows: this.#fieldWidth });
    if (this.#productCount === 0) return;
    const target = ofWeight.subarray(this.#fieldWidth * width);
    addProduct({ ...common, first: this.#productInputs, target, rows: this.#productCount });
  }

  /** The gradient of what a layer reads: `[rowCount, inputWidth]`. */
  #below({ weight, width, inputWidth }: Layer, ofSums: Float64Array, blocks: MovingBlocks) {
    const { rows, addProduct } = this.#terms;
    const target = new Float64Array(rows.rowCount * inputWidth);
    addProduct({
      ...{ first: ofSums, second: rows.valuesOf(weight, blocks), target, rows: rows.rowCount },
      ...{ inner: width, columns: inputWidth, isSecondTransposed: true },
    });
    return target;
  }

  /** From the first layer's sums to the fields of blocks, which need the sum over the rows alone. */
  #backInput(
    layer: Layer,
    ofSums: Float64Array,
    blocks: MovingBlocks,
    gradients: MovingBlocks,
  ): Float64Array | null {
    const { rows, addProduct } = this.#terms;
    if (this.#crossed !== null) return this.#below(layer, ofSums, blocks);
    const { weight, width } = layer;
    const weights = rows.valuesOf(weight, blocks);
    const overRows = new Float64Array(width);
    addSums(ofSums, width, overRows);
    for (const { name, column, vector } of this.#ownInputs()) {
      const target = gradients.get(name);
      if (target === undefined) continue;
      const second = weights.subarray(column * width);
      addProduct({
        ...{ first: overRows, second, target, rows: 1, inner: width },
        ...{ columns: vector.length, isSecondTransposed: true },
      });
    }
    if (this.#productCount === 0) return null;
    const ofProducts = new Float64Array(this.#productInputs.length);
    addProduct({
      ...{ first: ofSums, second: weights.subarray(this.#fieldWidth * width), target: ofProducts },
      ...{ rows: rows.rowCount, inner: width, columns: this.#productCount },
      isSecondTransposed: true,
    });
    this.#addProductGradient(ofProducts, gradients);
    return null;
  }

  #addProductGradient(ofProducts: Float64Array, gradients: MovingBlocks): void {
    const { rows, plan } = this.#terms;
    addProductGradients(this.#products, plan, { rows, ofProducts }, gradients);
  }

  /** The inputs side by side, `[rowCount, width]`: the output where there is no layer. */
  #inputs(): Float64Array {
    if (this.#crossed !== null) return this.#crossed;
    const { rows } = this.#terms;
    const [fieldWidth, count] = [this.#fieldWidth, this.#productCount];
    if (count === 0) return this.#fieldInputs;
    const inputs = new Float64Array(rows.rowCount * this.width);
    for (let row = 0; row < rows.rowCount; row += 1) {
      const ofFields = this.#fieldInputs.subarray(row * fieldWidth, (row + 1) * fieldWidth);
      inputs.set(ofFields, row * this.width);
      const ofProducts = this.#productInputs.subarray(row * count, (row + 1) * count);
      inputs.set(ofProducts, row * this.width + fieldWidth);
    }
    return inputs;
  }

  /** From the inputs' gradient, where there is no layer, to the fields of blocks. */
  #addInputGradient(ofInputs: Float64Array, gradients: MovingBlocks): void {
    const { rows } = this.#terms;
    const overRows = new Float64Array(this.width);
    addSums(ofInputs, this.width, overRows);
    for (const { name, column, vector } of this.#ownInputs()) {
      const gradient = gradients.get(name);
      if (gradient === undefined) continue;
      for (let k = 0; k < vector.length; k += 1)
        gradient[k] = float64At(gradient, k) + float64At(overRows, column + k);
    }
    const count = this.#productCount;
    if (count === 0) return;
    const ofProducts = new Float64Array(rows.rowCount * count);
    for (let row = 0; row < rows.rowCount; row += 1) {
      const end = (row + 1) * this.width;
      ofProducts.set(ofInputs.subarray(end - count, end), row * count);
    }
    this.#addProductGradient(ofProducts, gradients);
  }
}

/** Adds the gradient of products, `[rowCount, productCount]`, to that of the fields of blocks. */
export function addProductGradients(
  products: Products,
  plan: ScoringPlan,
  { rows, ofProducts }: { readonly rows: SupportRows; readonly ofProducts: Float64Array },
  gradients: MovingBlocks,
): void {
  const count = productCountOf(products, plan);
  for (const { place: field, name } of rows.own) {
    const target = gradients.get(name);
    if (target === undefined) continue;
    for (let row = 0; row < rows.rowCount; row += 1) {
      const gradient = ofProducts.subarray(row * count, (row + 1) * count);
      addFieldGradient(products, plan, { vectors: rows.vectorsOf(row), field, gradient }, target);
    }
  }
}

/** Adds the sums over the rows of `[rowCount, width]`. */
function addSums(values: Float64Array, width: number, sums: Float64Array): void {
  for (let first = 0; first < values.length; first += width)
    for (let j = 0; j < width; j += 1) sums[j] = (sums[j] ?? NaN) + (values[first + j] ?? NaN);
}
