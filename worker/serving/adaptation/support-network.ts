/**
 * The logits of one adgroup's rows under personal blocks that move, and the gradient of their loss, in double precision
 * and on all rows at once. What no block changes is computed once.
 */

import { float64At } from '../../../shared/base/arrays.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { RankingRequest } from '../ranking-request.js';
import type { Products, ScoringPlan } from '../scoring-plan.js';
import { plainProduct, type AddProduct } from '../dense-product.js';
import { productCountOf, writeProducts } from './field-products.js';
import { SupportCross } from './support-cross.js';
import { SupportRows, type MovingBlocks } from './support-rows.js';
import { addProductGradients, SupportTower } from './support-tower.js';

const NO_PRODUCTS: Products = { pairs: [], byField: [], hasOuter: false };

/** The inputs of the output layer, one beside the other: `[rowCount, width]`. */
interface OutputPiece {
  readonly values: Float64Array;
  readonly width: number;
}

export class SupportNetwork {
  readonly rowCount: number;
  readonly #plan: ScoringPlan;
  readonly #rows: SupportRows;
  readonly #addProduct: AddProduct;
  readonly #cross: SupportCross | null;
  readonly #tower: SupportTower | null;
  readonly #products: Products;
  /** The values of the last pass: cross layers, tower and products, without those that the output does not read. */
  #pieces: readonly OutputPiece[] = [];

  /** @param rows the rows as candidates, without a context. */
  constructor(
    model: RankingModel,
    plan: ScoringPlan,
    rows: RankingRequest,
    addProduct: AddProduct = plainProduct,
  ) {
    this.#plan = plan;
    this.#addProduct = addProduct;
    this.rowCount = rows.candidateCount;
    this.#rows = new SupportRows(model, plan, rows);
    const personal = new Set(model.blocks.layout.parts.map(({ name }) => name));
    const { cross, tower, output } = plan;
    this.#cross = cross === null ? null : new SupportCross(this.#rows, plan, cross, addProduct);
    const isPersonal = (name: string): boolean => personal.has(name);
    const terms = { rows: this.#rows, plan, isPersonal, addProduct };
    this.#tower = tower === null ? null : new SupportTower(terms, tower);
    this.#products = output?.products ?? NO_PRODUCTS;
  }

  /** The logit of each row; shifts are not part of it. */
  logits(blocks: MovingBlocks): Float64Array {
    const { hasPairTerm, output } = this.#plan;
    this.#rows.placeOwn(blocks);
    const bias = float64At(this.#rows.valuesOf('bias', blocks), 0);
    const ofOwn = this.#rows.own.map(({ name, hasLinear }) =>
      hasLinear ? float64At(this.#rows.valuesOf(name, blocks), this.#plan.embeddingWidth) : 0,
    );
    const same = ofOwn.reduce((sum, term) => sum + term, bias);
    const logits = this.#rows.linear.map((linear) => linear + same);
    if (hasPairTerm) this.#rows.addPairTerms(logits);
    if (output === null) return logits;
    this.#pieces = this.#piecesOf(output, blocks);
    const weights = this.#rows.valuesOf('output.weight', blocks);
    let first = 0;
    for (const { values, width } of this.#pieces) {
      const second = weights.subarray(first, first + width);
      const extents = { rows: this.rowCount, inner: width, columns: 1 };
      this.#addProduct({ first: values, second, target: logits, ...extents });
      first += width;
    }
    return logits;
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
    const slopes = this.logits(blocks).map((logit, row) => slopeOf(row, logit));
    const sum = slopes.reduce((total, slope) => total + slope, 0);
    addAt(gradients.get('bias'), 0, sum);
    for (const { place, name, hasLinear } of this.#rows.own) {
      const gradient = gradients.get(name);
      if (gradient === undefined) continue;
      if (hasLinear) addAt(gradient, this.#plan.embeddingWidth, sum);
      if (this.#plan.hasPairTerm) this.#rows.addPairGradient(place, slopes, gradient);
    }
    this.#backOutput(slopes, blocks, gradients);
  }

  #piecesOf(output: NonNullable<ScoringPlan['output']>, blocks: MovingBlocks): OutputPiece[] {
    const { fields, embeddingWidth } = this.#plan;
    const crossed = this.#cross?.forward() ?? null;
    const pieces: OutputPiece[] = [];
    if (output.hasCrossed && crossed !== null)
      pieces.push({ values: crossed, width: fields.length * embeddingWidth });
    if (output.hasTower && this.#tower !== null) {
      const input = this.#plan.tower?.input === null ? crossed : null;
      pieces.push({ values: this.#tower.forward(blocks, input), width: this.#tower.width });
    }
    const width = productCountOf(this.#products, this.#plan);
    if (width > 0) pieces.push({ values: this.#productsOf(width), width });
    return pieces;
  }

  #productsOf(width: number): Float64Array {
    const values = new Float64Array(this.rowCount * width);
    for (let row = 0; row < this.rowCount; row += 1) {
      const target = values.subarray(row * width, (row + 1) * width);
      writeProducts(this.#products, this.#plan, this.#rows.vectorsOf(row), target);
    }
    return values;
  }

  /** Goes back through the output to what it reads. */
  #backOutput(slopes: Float64Array, blocks: MovingBlocks, gradients: MovingBlocks): void {
    const { output } = this.#plan;
    if (output === null) return;
    const weights = this.#rows.valuesOf('output.weight', blocks);
    const ofWeights = gradients.get('output.weight');
    let first = 0;
    const backs: Float64Array[] = [];
    for (const { values, width } of this.#pieces) {
      const second = weights.subarray(first, first + width);
      if (ofWeights !== undefined)
        this.#addProduct({
          ...{ first: values, second: slopes, target: ofWeights.subarray(first, first + width) },
          ...{ rows: width, inner: this.rowCount, columns: 1, isFirstTransposed: true },
        });
      const back = new Float64Array(this.rowCount * width);
      this.#addProduct({
        ...{ first: slopes, second, target: back, rows: this.rowCount, inner: 1, columns: width },
      });
      backs.push(back);
      first += width;
    }
    const left = backs.values();
    const ofCrossed = output.hasCrossed ? (left.next().value ?? null) : null;
    const ofTower = output.hasTower ? (left.next().value ?? null) : null;
    const ofProducts = left.next().value ?? null;
    const below =
      ofTower === null ? null : (this.#tower?.backward(ofTower, blocks, gradients) ?? null);
    this.#backCrossed(ofCrossed ?? below, gradients);
    if (ofProducts !== null)
      addProductGradients(this.#products, this.#plan, { rows: this.#rows, ofProducts }, gradients);
  }

  /** From the cross layers' output to the fields of blocks. */
  #backCrossed(ofCrossed: Float64Array | null, gradients: MovingBlocks): void {
    if (ofCrossed === null || this.#cross === null || this.#rows.own.length === 0) return;
    const { embeddingWidth: width, fields } = this.#plan;
    const ofVectors = this.#cross.backward(ofCrossed);
    for (const { place, name } of this.#rows.own) {
      const gradient = gradients.get(name);
      for (let row = 0; row < this.rowCount; row += 1)
        for (let k = 0; k < width; k += 1)
          addAt(gradient, k, float64At(ofVectors, (row * fields.length + place) * width + k));
    }
  }
}

function addAt(target: Float64Array | undefined, index: number, value: number): void {
  if (target !== undefined) target[index] = float64At(target, index) + value;
}
