/** One personal variable, read where it lies in a block, as float32. */

import { at, float32At } from '../../shared/base/arrays.js';
import { valueOfHalf } from '../../shared/bundle/half-precision.js';
import type { BlockPart, PersonalBlocks, RankingModel } from '../../shared/bundle/ranking-model.js';
import { elementCountOf } from '../../shared/tensors/named-tensors.js';
import { denseOf } from './scoring-plan.js';

interface Views {
  readonly floats: Float32Array;
  readonly halves: Uint16Array;
  readonly steps: Int8Array;
}

let knownHalves: Float32Array | null = null;

export class PartReader {
  readonly #part: BlockPart;
  readonly #initial: Float32Array;
  readonly #views: readonly Views[];
  readonly #values: Float32Array;
  readonly #strideByteCount: number;
  readonly #blocksPerShard: number;

  constructor(model: RankingModel, part: BlockPart) {
    const { layout, shards, blocksPerShard } = model.blocks;
    this.#part = part;
    this.#initial = denseOf(model, part.name);
    this.#views = shards.map(viewsOf);
    this.#values = new Float32Array(elementCountOf(part.shape));
    this.#strideByteCount = layout.strideByteCount;
    this.#blocksPerShard = blocksPerShard;
  }

  /** The values, until the next call. */
  read(block: number): Float32Array {
    const { encoding, byteOffset, scaleByteOffset, scaleCount } = this.#part;
    const views = at(this.#views, Math.floor(block / this.#blocksPerShard));
    const first = (block % this.#blocksPerShard) * this.#strideByteCount;
    const values = this.#values;
    const count = values.length;
    if (encoding === 'float32') {
      const from = (first + byteOffset) / 4;
      for (let index = 0; index < count; index += 1)
        values[index] = views.floats[from + index] ?? NaN;
    } else if (encoding === 'float16') {
      const known = (knownHalves ??= Float32Array.from({ length: 65_536 }, (_, half) =>
        valueOfHalf(half),
      ));
      const from = (first + byteOffset) / 2;
      for (let index = 0; index < count; index += 1)
        values[index] = known[views.halves[from + index] ?? 0x7e00] ?? NaN;
    } else {
      const scaledCount = count / scaleCount;
      for (let index = 0; index < count; index += 1) {
        const row = Math.floor(index / scaledCount);
        const scale = views.floats[(first + scaleByteOffset) / 4 + row] ?? NaN;
        const steps = views.steps[first + byteOffset + index] ?? NaN;
        values[index] = (this.#initial[index] ?? NaN) + scale * steps;
      }
    }
    return values;
  }
}

function viewsOf({ buffer, byteOffset, byteLength }: Uint8Array): Views {
  return {
    floats: new Float32Array(buffer, byteOffset, byteLength / 4),
    halves: new Uint16Array(buffer, byteOffset, byteLength / 2),
    steps: new Int8Array(buffer, byteOffset, byteLength),
  };
}

/** The level of each block: 0 where no shift follows the inner steps. */
export function levelReader({
  layout,
  shards,
  blocksPerShard,
}: PersonalBlocks): (block: number) => number {
  const { levelByteOffset, strideByteCount } = layout;
  if (levelByteOffset === null) return () => 0;
  const views = shards.map(viewsOf);
  return (block) => {
    const { floats } = at(views, Math.floor(block / blocksPerShard));
    return float32At(floats, ((block % blocksPerShard) * strideByteCount + levelByteOffset) / 4);
  };
}
