/** Packs adapted adgroups into the arrays of a bundle, block by block, with one file in memory at a time. */

import { at, spanAt } from '../../shared/base/arrays.js';
import {
  ARRAY_FILE_BYTE_COUNT,
  writeRowsBehind,
  type NamedArray,
  type PutFile,
} from '../../shared/bundle/array-files.js';
import { blockBytes, writeBlock } from '../../shared/bundle/block-codec.js';
import type { BundleArray } from '../../shared/bundle/bundle-manifest.js';
import type { BlockLayout, ValueLists } from '../../shared/bundle/ranking-model.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';
import type { AdaptedTask } from '../../shared/bundle/adapted-tasks.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';

interface BlockTarget {
  readonly layout: BlockLayout;
  /** Blocks that are added. */
  readonly blockCount: number;
  readonly blocksPerFile: number;
  /** Features whose values have sums. */
  readonly encodedFeatures: readonly string[];
  readonly put: PutFile;
  /** The arrays of a bundle, behind whose blocks the added ones follow; none by default. */
  readonly before?: readonly BundleArray[];
}

/** The facts of a block that a bundle has beside the adapted task. */
interface BlockNotes {
  /** Rows that it was adapted on; 0 for an unadapted one. */
  readonly supportRowCount: number;
  readonly labelIndex: number;
  /** The offset of its calibrated outputs. */
  readonly offset: number;
}

/** The largest power of two of blocks that fit a file. */
export function blocksPerFileOf(
  { strideByteCount }: Pick<BlockLayout, 'strideByteCount'>,
  fileByteCountMax = ARRAY_FILE_BYTE_COUNT,
): number {
  return 2 ** Math.max(0, Math.floor(Math.log2(fileByteCountMax / strideByteCount)));
}

/** Takes blocks in their order. */
export class PackedBlocks {
  readonly #target: BlockTarget;
  readonly #before: ReadonlyMap<string, BundleArray>;
  readonly #files: BlobRef[];
  #file: Uint8Array;
  #block = 0;
  readonly #supportRowCounts: Uint32Array;
  readonly #clicks: Float64Array;
  readonly #impressions: Float64Array;
  readonly #isOfValues: Uint8Array;
  readonly #isAlone: Uint8Array;
  readonly #labels: Int32Array;
  readonly #offsets: Float32Array;
  readonly #sums: ValueColumns;

  constructor(target: BlockTarget) {
    this.#target = target;
    const { blockCount, before = [] } = target;
    this.#before = new Map(before.map((array) => [array.name, array]));
    this.#files = [...(this.#before.get('blocks')?.files ?? [])];
    this.#sums = new ValueColumns(['clicks', 'impressions'], this.#before.get('sums.ids'));
    this.#file = this.#nextFile();
    this.#supportRowCounts = new Uint32Array(blockCount);
    this.#clicks = new Float64Array(blockCount);
    this.#impressions = new Float64Array(blockCount);
    this.#isOfValues = new Uint8Array(blockCount);
    this.#isAlone = new Uint8Array(blockCount);
    this.#labels = new Int32Array(blockCount);
    this.#offsets = new Float32Array(blockCount);
  }

  async add(task: AdaptedTask, notes: BlockNotes): Promise<void> {
    writeBlock(this.#target.layout, task.blocks, this.#nextBytes());
    const block = this.#block;
    this.#supportRowCounts[block] = notes.supportRowCount;
    this.#clicks[block] = task.support.clicks;
    this.#impressions[block] = task.support.impressions;
    this.#isOfValues[block] = task.loss === 'squared' ? 1 : 0;
    this.#isAlone[block] = task.isAlone ? 1 : 0;
    this.#labels[block] = notes.labelIndex;
    this.#offsets[block] = notes.offset;
    for (const feature of this.#target.encodedFeatures.keys())
      this.#sums.add(task.support.byValue[feature], (sum) => [sum.clicks, sum.impressions]);
    await this.#endBlock();
  }

  /** Adds a block as another bundle has it. */
  async copy({ model: { blocks }, labels, offsets }: LoadedBundle, from: number): Promise<void> {
    const { evidence, isOfValues, isAlone } = blocks;
    const { supportRowCounts, clicks, impressions, byValue } = evidence;
    this.#nextBytes().set(blockBytes(blocks, from));
    const block = this.#block;
    this.#supportRowCounts[block] = at(supportRowCounts, from);
    this.#clicks[block] = at(clicks, from);
    this.#impressions[block] = at(impressions, from);
    this.#isOfValues[block] = at(isOfValues, from);
    this.#isAlone[block] = at(isAlone, from);
    this.#labels[block] = at(labels, from);
    this.#offsets[block] = at(offsets, from);
    if (byValue !== null) this.#sums.copy(byValue, from, [byValue.clicks, byValue.impressions]);
    await this.#endBlock();
  }

  /** The arrays, once every block was added. */
  async finish(): Promise<BundleArray[]> {
    const { blockCount, layout, put, encodedFeatures } = this.#target;
    if (this.#block !== blockCount) throw new Error(`${this.#block} of ${blockCount} blocks`);
    const vector = (name: string, values: NamedArray['values']): NamedArray => ({
      ...{ name: `blocks.${name}`, values },
      shape: [values.length],
    });
    const arrays: NamedArray[] = [
      vector('supportRowCounts', this.#supportRowCounts),
      vector('clicks', this.#clicks),
      vector('impressions', this.#impressions),
      vector('isOfValues', this.#isOfValues),
      vector('isAlone', this.#isAlone),
      vector('labels', this.#labels),
      vector('offsets', this.#offsets),
      ...(encodedFeatures.length === 0 ? [] : this.#sums.arrays('sums', Float64Array)),
    ];
    const countBefore = this.#before.get('blocks')?.shape[0] ?? 0;
    const written: BundleArray[] = [
      {
        ...{ name: 'blocks', type: 'U8', files: this.#files },
        shape: [countBefore + blockCount, layout.strideByteCount],
      },
    ];
    for (const array of arrays)
      written.push(await writeRowsBehind(this.#before.get(array.name), array, put));
    return written;
  }

  /** Where the next block is written. */
  #nextBytes(): Uint8Array {
    const { layout, blockCount, blocksPerFile } = this.#target;
    if (this.#block >= blockCount) throw new Error(`a block too many: there are ${blockCount}`);
    const first = (this.#block % blocksPerFile) * layout.strideByteCount;
    return this.#file.subarray(first, first + layout.strideByteCount);
  }

  async #endBlock(): Promise<void> {
    const { blockCount, blocksPerFile, put } = this.#target;
    this.#block += 1;
    if (this.#block % blocksPerFile !== 0 && this.#block !== blockCount) return;
    this.#files.push(await put(this.#file));
    if (this.#block < blockCount) this.#file = this.#nextFile();
  }

  #nextFile(): Uint8Array {
    const { blockCount, blocksPerFile, layout } = this.#target;
    const left = Math.min(blocksPerFile, blockCount - this.#block);
    return new Uint8Array(left * layout.strideByteCount);
  }
}

/** Lists of values of every block and feature, one after the other, with numbers beside the ids. */
class ValueColumns {
  readonly #names: readonly string[];
  /** Values of the blocks before. */
  readonly #countBefore: number;
  readonly #offsets: number[];
  readonly #ids: number[] = [];
  readonly #columns: number[][];

  /** @param before the ids of blocks behind which others follow. */
  constructor(names: readonly string[], before: BundleArray | undefined) {
    this.#names = names;
    this.#countBefore = before?.shape[0] ?? 0;
    this.#offsets = before === undefined ? [0] : [];
    this.#columns = names.map(() => []);
  }

  /** @param list null or absent for an empty one. */
  add<Value>(
    list: ReadonlyMap<number, Value> | undefined,
    numbersOf: (value: Value) => readonly number[],
  ): void {
    const sorted = [...(list ?? [])].sort(([first], [second]) => first - second);
    for (const [id, value] of sorted) {
      this.#ids.push(id);
      for (const [column, number] of numbersOf(value).entries())
        at(this.#columns, column).push(number);
    }
    this.#offsets.push(this.#countBefore + this.#ids.length);
  }

  /** Adds the lists of a block of another bundle, by feature. */
  copy(
    { features, offsets, ids }: ValueLists,
    block: number,
    columns: readonly (Float32Array | Float64Array)[],
  ): void {
    for (const feature of features.keys()) {
      const [start, end] = spanAt(offsets, block * features.length + feature);
      for (let entry = start; entry < end; entry += 1) {
        this.#ids.push(at(ids, entry));
        for (const [column, values] of columns.entries())
          at(this.#columns, column).push(at(values, entry));
      }
      this.#offsets.push(this.#countBefore + this.#ids.length);
    }
  }

  arrays(
    group: string,
    Type: { from(values: readonly number[]): Float32Array | Float64Array },
  ): NamedArray[] {
    const vector = (name: string, values: NamedArray['values']): NamedArray => ({
      ...{ name: `${group}.${name}`, values },
      shape: [values.length],
    });
    return [
      vector('offsets', Int32Array.from(this.#offsets)),
      vector('ids', Int32Array.from(this.#ids)),
      ...this.#names.map((name, column) => vector(name, Type.from(at(this.#columns, column)))),
    ];
  }
}
