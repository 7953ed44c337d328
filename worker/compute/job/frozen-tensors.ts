/**
 * Keeps frozen inputs as tensors on the device, by content, so that inputs which all jobs of a run
 * share are decoded and uploaded once.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { LruCache } from '../../../shared/base/lru-cache.js';
import { SHARED_KEPT_COUNT } from '../../process/compute-protocol.js';
import type { Engine } from '../engine/load-engine.js';
import { floatTensors, ROWS } from './job-inputs.js';

/** Tensors of the cache, which alone disposes of them. */
export interface FrozenTensors {
  /** Tensors by name of the variable. */
  readonly dense: ReadonlyMap<string, tfjs.Tensor>;
  /** Every table whole, `[sum of table rows, tableRowWidth]`; null where jobs have row packs. */
  readonly rows: tfjs.Tensor2D | null;
}

const NOTHING: FrozenTensors = { dense: new Map(), rows: null };

export class FrozenTensorCache {
  readonly #engine: Engine;
  readonly #bySha256 = new LruCache<string, FrozenTensors>({ countMax: SHARED_KEPT_COUNT });

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * @param bytes as sent with the job; read where they are not known.
   * @throws QianmoError of kind `data` when the bytes are not tensors of 32-bit floats.
   */
  get(sha256: string | undefined, bytes: Uint8Array | null, where: string): FrozenTensors {
    if (sha256 === undefined || bytes === null) return NOTHING;
    const known = this.#bySha256.get(sha256);
    if (known !== undefined) return known;
    const tensors = this.#uploaded(bytes, where);
    for (const evicted of this.#bySha256.put(sha256, tensors)) disposeOf(evicted);
    return tensors;
  }

  dispose(): void {
    for (const tensors of this.#bySha256.clear()) disposeOf(tensors);
  }

  #uploaded(bytes: Uint8Array, where: string): FrozenTensors {
    const { tf } = this.#engine;
    const dense = new Map<string, tfjs.Tensor>();
    let rows: tfjs.Tensor2D | null = null;
    for (const [name, { shape, values }] of floatTensors(bytes, where)) {
      const tensor = tf.keep(tf.tensor(values, [...shape], 'float32'));
      // The rank is checked with the job's other tensors.
      if (name === ROWS) rows = tensor as tfjs.Tensor2D;
      else dense.set(name, tensor);
    }
    return { dense, rows };
  }
}

function disposeOf({ dense, rows }: FrozenTensors): void {
  for (const tensor of dense.values()) tensor.dispose();
  rows?.dispose();
}
