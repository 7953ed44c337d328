/** Runs the matrix products of our engine and of PyTorch, on one thread and on two. */

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { PRODUCTS, ProductRatesSchema, type Product, type ProductRate } from './matrix-products.js';
import { peerScript, threadEnvironment, type LaunchRoom } from './sides/sides.js';

export interface ProductResult {
  readonly side: 'ours' | 'torch';
  readonly threadCount: number;
  readonly rates: readonly (ProductRate & { readonly product: Product })[];
}

const OURS = fileURLToPath(new URL('matrix-products.js', import.meta.url));
const TIMEOUT_MS = 120_000;

export function measureProducts(room: LaunchRoom): ProductResult[] {
  return [1, 2].flatMap((threadCount) => {
    const pin = threadCount === 1 ? ['taskset', '-c', '0'] : ['env'];
    const rates = (command: readonly string[]): ProductResult['rates'] => {
      const [program = '', ...args] = [...pin, ...command];
      const output = execFileSync(program, args, {
        env: { ...room.environment, ...threadEnvironment(threadCount) },
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
        timeout: TIMEOUT_MS,
      });
      const line = output.split('\n').find((one) => one.startsWith('{')) ?? '{}';
      const { products } = ProductRatesSchema.parse(JSON.parse(line));
      return products.map((rate, index) => ({ ...rate, product: PRODUCTS[index] ?? [1, 1, 1, 1] }));
    };
    const ours: ProductResult = {
      ...{ side: 'ours', threadCount },
      rates: rates([process.execPath, OURS, JSON.stringify(PRODUCTS)]),
    };
    if (room.python === null) return [ours];
    const parameters = JSON.stringify({ threadCount, products: PRODUCTS });
    return [
      ours,
      {
        ...{ side: 'torch', threadCount },
        rates: rates([room.python, '-B', peerScript('products.py'), parameters]),
      },
    ];
  });
}
