/**
 * The cross layers of dcn-v2 on all rows at once, and their derivative with respect to the fields of blocks. The layers
 * themselves are shared:
 *
 *   x_{l+1} = x_l + x_0 * (W_l x_l + b_l), with W_l = V_l U_l where the layers have a rank
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { ScoringPlan } from '../scoring-plan.js';
import type { AddProduct } from '../dense-product.js';
import type { SupportRows } from './support-rows.js';

export class SupportCross {
  readonly #rows: SupportRows;
  readonly #width: number;
  readonly #rank: number | null;
  readonly #addProduct: AddProduct;
  /** W_l x_l + b_l of each layer, `[rowCount, width]`. */
  readonly #factors: readonly Float64Array[];

  constructor(
    rows: SupportRows,
    plan: Pick<ScoringPlan, 'fields' | 'embeddingWidth'>,
    cross: NonNullable<ScoringPlan['cross']>,
    addProduct: AddProduct,
  ) {
    this.#rows = rows;
    this.#width = plan.fields.length * plan.embeddingWidth;
    this.#rank = cross.rank;
    this.#addProduct = addProduct;
    this.#factors = Array.from(
      { length: cross.layerCount },
      () => new Float64Array(rows.vectors.length),
    );
  }

  /** The last layer's output, `[rowCount, width]`. */
  forward(): Float64Array {
    const inputs = this.#rows.vectors;
    let crossed = inputs;
    for (const [layer, factors] of this.#factors.entries()) {
      const bias = this.#rows.frozen(`cross${layer}.bias`);
      for (let row = 0; row < this.#rows.rowCount; row += 1) factors.set(bias, row * this.#width);
      this.#addWeighted(layer, crossed, factors, false);
      crossed = crossed.map(
        (value, index) => value + float64At(inputs, index) * float64At(factors, index),
      );
    }
    return crossed;
  }

  /** The gradient of the fields' vectors, from that of the output: `[rowCount, width]` both. */
  backward(ofOutput: Float64Array): Float64Array {
    const inputs = this.#rows.vectors;
    const ofInputs = new Float64Array(inputs.length);
    let above = ofOutput.slice();
    for (let layer = this.#factors.length - 1; layer >= 0; layer -= 1) {
      const factors = at(this.#factors, layer);
      const ofFactors = new Float64Array(inputs.length);
      for (let index = 0; index < inputs.length; index += 1) {
        const value = float64At(above, index);
        ofInputs[index] = float64At(ofInputs, index) + value * float64At(factors, index);
        ofFactors[index] = value * float64At(inputs, index);
      }
      this.#addWeighted(layer, ofFactors, above, true);
    }
    above = above.map((value, index) => value + float64At(ofInputs, index));
    return above;
  }

  /** Adds the values multiplied by the layer's weights, or by their transpose. */
  #addWeighted(
    layer: number,
    values: Float64Array,
    target: Float64Array,
    isSecondTransposed: boolean,
  ): void {
    const { rowCount: rows } = this.#rows;
    const width = this.#width;
    const rank = this.#rank;
    if (rank === null) {
      const second = this.#rows.frozen(`cross${layer}.weight`);
      const square = { rows, inner: width, columns: width };
      this.#addProduct({ first: values, second, target, ...square, isSecondTransposed });
      return;
    }
    const names = ['compress', 'expand'] as const;
    const [into, out] = isSecondTransposed ? [names[1], names[0]] : names;
    const between = new Float64Array(rows * rank);
    this.#addProduct({
      ...{ first: values, second: this.#rows.frozen(`cross${layer}.${into}`), target: between },
      ...{ rows, inner: width, columns: rank, isSecondTransposed },
    });
    this.#addProduct({
      ...{ first: between, second: this.#rows.frozen(`cross${layer}.${out}`), target },
      ...{ rows, inner: rank, columns: width, isSecondTransposed },
    });
  }
}
