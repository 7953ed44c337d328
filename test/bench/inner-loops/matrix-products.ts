/**
 * Matrix products alone, the peak to which inner loops are compared, by our engine in a separate
 * process:
 *
 *   node dist/test/bench/inner-loops/matrix-products.js '[[1,1024,1024,1024]]'
 *
 * Each product is [batchCount, rows, inner, columns]. Prints a JSON line: GFLOPS of the median.
 */

import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { Engine } from '../../../worker/compute/engine/load-engine.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';
import { timeRepeatedly } from './sides/time-repeatedly.js';

const ProductsSchema = z.array(
  z.tuple([z.int().positive(), z.int().positive(), z.int().positive(), z.int().positive()]),
);
export type Product = z.infer<typeof ProductsSchema>[number];

export const ProductRatesSchema = z.looseObject({
  products: z.array(z.looseObject({ gflops: z.number(), gflopsMax: z.number() })),
});
export type ProductRate = z.infer<typeof ProductRatesSchema>['products'][number];

/** A large square, and the largest products of the workloads, by task and flat. */
export const PRODUCTS: readonly Product[] = [
  [1, 1024, 1024, 1024],
  [32, 64, 256, 128],
  [1, 2048, 256, 128],
  [256, 32, 128, 64],
  [1, 8192, 160, 128],
  [1, 8192, 128, 64],
];

const TIME_PER_PRODUCT_MS = 500;

function rateOf({ tf }: Engine, [batchCount, rows, inner, columns]: Product): ProductRate {
  const lead = batchCount === 1 ? [] : [batchCount];
  const left = tf.randomUniform([...lead, rows, inner], 0, 1, 'float32', 1);
  const right = tf.randomUniform([...lead, inner, columns], 0, 1, 'float32', 2);
  const { medianMs, minMs } = timeRepeatedly(TIME_PER_PRODUCT_MS, () =>
    tf.dispose(tf.matMul(left, right)),
  );
  tf.dispose([left, right]);
  const flops = 2 * batchCount * rows * inner * columns;
  return { gflops: flops / medianMs / 1e6, gflopsMax: flops / minMs / 1e6 };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const products = ProductsSchema.parse(JSON.parse(process.argv[2] ?? '[]'));
  const engine = await loadEngine('tensorflow', (message) => console.error(message));
  console.log(JSON.stringify({ products: products.map((product) => rateOf(engine, product)) }));
  process.exit(0);
}
