/** The gradients of a job while its micro-batches are computed: sums in float64, in the order of micro-batches. */

import { elementCountOf, type DenseTensor } from '../../../shared/tensors/named-tensors.js';
import type { CodedTensor } from '../../../shared/tensors/tensor-codec.js';

interface NamedShape {
  readonly name: string;
  readonly shape: readonly number[];
}

export class GradientSums {
  readonly #sums: ReadonlyMap<string, GradientSum>;

  constructor(shapes: readonly NamedShape[]) {
    this.#sums = new Map(shapes.map(({ name, shape }) => [name, new GradientSum(shape)]));
  }

  /**
   * Does nothing for a name that has no sum.
   *
   * @param values nobody writes to them any more.
   */
  add(name: string, values: Float32Array): void {
    this.#sums.get(name)?.add(values);
  }

  /** The sums, rounded to float32. */
  rounded(): Map<string, DenseTensor> {
    return this.#each((sum) => sum.rounded());
  }

  /** The sums in float64, for whoever adds further micro-batches. */
  exact(): Map<string, CodedTensor> {
    return this.#each((sum) => sum.exact());
  }

  #each<Values>(
    of: (sum: GradientSum) => Values,
  ): Map<string, { readonly shape: readonly number[]; readonly values: Values }> {
    return new Map(
      [...this.#sums].map(([name, sum]) => [name, { shape: sum.shape, values: of(sum) }]),
    );
  }
}

/** The values of a single micro-batch are kept as they are. */
class GradientSum {
  readonly shape: readonly number[];
  readonly #length: number;
  #only: Float32Array | null = null;
  #sum: Float64Array | null = null;

  constructor(shape: readonly number[]) {
    this.shape = shape;
    this.#length = elementCountOf(shape);
  }

  add(values: Float32Array): void {
    if (values.length !== this.#length)
      throw new Error(`a gradient has ${values.length} values, not ${this.#length}`);
    if (this.#sum === null && this.#only === null) {
      this.#only = values;
      return;
    }
    const sum = (this.#sum ??= Float64Array.from(this.#only ?? []));
    for (let index = 0; index < sum.length; index += 1)
      sum[index] = (sum[index] ?? NaN) + (values[index] ?? NaN);
  }

  /** Zeros where nothing was added. */
  rounded(): Float32Array {
    if (this.#sum !== null) return new Float32Array(this.#sum);
    return this.#only ?? new Float32Array(this.#length);
  }

  exact(): Float64Array {
    return this.#sum ?? Float64Array.from(this.rounded());
  }
}
