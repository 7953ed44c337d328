/** Products of dense matrices in double precision: plain TypeScript, which the addon of the kernel must agree with. */

/** `target [rows, columns]` += first x second, each transposed or not. Matrices lie row by row, from the start of their arrays. */
interface DenseProduct {
  /** `[rows, inner]`; `[inner, rows]` if transposed. */
  readonly first: Float64Array;
  /** `[inner, columns]`; `[columns, inner]` if transposed. */
  readonly second: Float64Array;
  readonly target: Float64Array;
  readonly rows: number;
  readonly inner: number;
  readonly columns: number;
  readonly isFirstTransposed?: boolean;
  readonly isSecondTransposed?: boolean;
}

export type AddProduct = (product: DenseProduct) => void;

/** As `native/addon.cc` exports it. */
export interface ProductsAddon {
  /**
   * @param transposed 1 if the first matrix is, plus 2 if the second is.
   * @param kernel its place among the addon's `kernels()`.
   */
  addProduct(
    first: Float64Array,
    second: Float64Array,
    target: Float64Array,
    rows: number,
    inner: number,
    columns: number,
    transposed: number,
    kernel: number,
  ): void;
}

/** @param kernel the fastest if absent. */
export function nativeProduct(addon: ProductsAddon, kernel = 0): AddProduct {
  return ({ first, second, target, rows, inner, columns, ...product }) => {
    const { isFirstTransposed = false, isSecondTransposed = false } = product;
    const transposed = (isFirstTransposed ? 1 : 0) + (isSecondTransposed ? 2 : 0);
    addon.addProduct(first, second, target, rows, inner, columns, transposed, kernel);
  };
}

export const plainProduct: AddProduct = (product) => {
  if (product.isSecondTransposed === true) addDots(product);
  else addMultiples(product);
};

/** Adds multiples of the rows of the second matrix. */
function addMultiples({
  first,
  second,
  target,
  rows,
  inner,
  columns,
  isFirstTransposed = false,
}: DenseProduct): void {
  const [rowStride, innerStride] = isFirstTransposed ? [1, rows] : [inner, 1];
  for (let row = 0; row < rows; row += 1)
    for (let k = 0; k < inner; k += 1) {
      const factor = first[row * rowStride + k * innerStride] ?? NaN;
      // Half of the outputs of a layer with ReLU, and of their gradients.
      if (factor === 0) continue;
      const [from, to] = [k * columns, row * columns];
      for (let j = 0; j < columns; j += 1)
        target[to + j] = (target[to + j] ?? NaN) + factor * (second[from + j] ?? NaN);
    }
}

/** Adds dot products with the rows of the second matrix. */
function addDots({
  first,
  second,
  target,
  rows,
  inner,
  columns,
  isFirstTransposed = false,
}: DenseProduct): void {
  const [rowStride, innerStride] = isFirstTransposed ? [1, rows] : [inner, 1];
  for (let row = 0; row < rows; row += 1)
    for (let j = 0; j < columns; j += 1) {
      let sum = 0;
      for (let k = 0; k < inner; k += 1)
        sum += (first[row * rowStride + k * innerStride] ?? NaN) * (second[j * inner + k] ?? NaN);
      const place = row * columns + j;
      target[place] = (target[place] ?? NaN) + sum;
    }
}
