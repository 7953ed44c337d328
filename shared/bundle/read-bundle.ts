/** Reads a bundle into what a ranking server holds: the model, the index, the row encoder, the checks. */

import { at, uint32At } from '../base/arrays.js';
import { type QianmoError, errorOf } from '../base/errors.js';
import {
  allocateEncodedRows,
  type EncodedRows,
  rowEncoderOf,
  type RowEncoder,
} from '../features/row-encoder.js';
import { dictionarySlotCountOf, type PackedDictionary } from '../features/packed-dictionary.js';
import { modelSpecOf, type ModelSpec } from '../models/model-spec.js';
import type { EmbeddingTable, DenseTensor } from '../tensors/named-tensors.js';
import type { ObjectStore } from '../storage/object-store.js';
import { BundleArrays, filesOf, joinedFiles, type ReadFiles } from './array-files.js';
import { blockLayoutOf } from './block-codec.js';
import type { BundleManifest } from './bundle-manifest.js';
import { readBundleManifest } from './bundle-store.js';
import { slotCountOf, type KeyIndexArrays } from './key-index.js';
import type { PersonalBlocks, RankingModel, ValueLists } from './ranking-model.js';
import type { EncodedFeature } from '../tasks/store-manifest.js';
import {
  targetEncodingNameOf,
  targetEncodingsIn,
  type TargetEncoding,
} from '../tasks/target-encoding.js';

/** Rows with the logits that a scorer must give them. */
interface SelfCheck {
  /** The block of each row, `[rowCount]`. */
  readonly blocks: Int32Array;
  readonly rows: EncodedRows;
  /** `[rowCount]`; standardised values where the block predicts values. */
  readonly logits: Float32Array;
  /** `[rowCount]`: calibrated probabilities, or values in their own unit. */
  readonly expected: Float32Array;
}

export interface LoadedBundle {
  readonly manifest: BundleManifest;
  readonly model: RankingModel;
  readonly index: KeyIndexArrays;
  /** `[blockCount]`: places in the labels of the manifest, and in its calibrations. */
  readonly labels: Int32Array;
  /** `[blockCount]`: of calibrated outputs. */
  readonly offsets: Float32Array;
  readonly encoder: RowEncoder;
  readonly selfCheck: SelfCheck;
}

/**
 * Reads a published bundle into memory.
 *
 * @throws QianmoError of kind `usage` if there is no such bundle; `data` if it is damaged.
 */
export async function readPublishedBundle(
  store: ObjectStore,
  digest: string,
): Promise<LoadedBundle> {
  const { manifest } = await readBundleManifest(store, digest);
  return readBundle(manifest, filesOf(store), `${store.address}@${digest}`);
}

/**
 * @param where names the bundle in messages.
 * @throws QianmoError of kind `data` if a file is missing or damaged, or does not fit the manifest.
 */
export async function readBundle(
  manifest: BundleManifest,
  read: ReadFiles,
  where: string,
): Promise<LoadedBundle> {
  const source = { manifest, arrays: new BundleArrays(manifest.arrays, read, where), where };
  const { arrays } = source;
  const blockCount = manifest.blocks.count;
  return {
    manifest,
    model: await modelOf(source),
    index: await indexOf(source),
    labels: await arrays.int32('blocks.labels', [blockCount]),
    offsets: await arrays.float32('blocks.offsets', [blockCount]),
    encoder: await encoderOf(source),
    selfCheck: await selfCheckOf(source),
  };
}

/** The variables and tables of a bundle's model and method. */
function bundleSpecOf({
  model,
  encodedFeatures,
  method,
  trainable,
}: Pick<BundleManifest, 'model' | 'encodedFeatures' | 'method' | 'trainable'>): ModelSpec {
  return modelSpecOf(model, encodedFeatures, method, trainable);
}

interface BundleSource {
  readonly manifest: BundleManifest;
  readonly arrays: BundleArrays;
  readonly where: string;
}

async function modelOf(source: BundleSource): Promise<RankingModel> {
  const { manifest, arrays } = source;
  const spec = bundleSpecOf(manifest);
  const dense = new Map<string, DenseTensor>();
  for (const { name, shape } of spec.variables)
    dense.set(name, { shape, values: await arrays.float32(`dense/${name}`, shape) });
  const tables = new Map<string, EmbeddingTable>();
  const width = spec.tableRowWidth;
  for (const { name, rowCount } of spec.tables) {
    const values = await arrays.float32(`tables/${name}`, [rowCount, width]);
    tables.set(name, { rowCount, width, values });
  }
  return { spec, dense, tables, blocks: await blocksOf(source, spec) };
}

async function blocksOf(
  { manifest, arrays, where }: BundleSource,
  spec: ModelSpec,
): Promise<PersonalBlocks> {
  const { count: blockCount, encoding, strideByteCount, blocksPerFile } = manifest.blocks;
  const layout = blockLayoutOf(spec, encoding);
  if (layout.strideByteCount !== strideByteCount)
    throw unfit(where, 'bytes of a block', `${layout.strideByteCount}`, `${strideByteCount}`);
  const files = await arrays.files('blocks', 'U8', [blockCount, strideByteCount]);
  const shards = shardsOf(files, blocksPerFile * strideByteCount);
  const encoded = spec.options.supportInputs?.targetEncodings ?? [];
  const sums = await listsOf(arrays, 'sums', { features: encoded, blockCount });
  return {
    ...{ layout, blockCount, shards, blocksPerShard: blocksPerFile },
    evidence: {
      supportRowCounts: await arrays.uint32('blocks.supportRowCounts', [blockCount]),
      clicks: await arrays.float64('blocks.clicks', [blockCount]),
      impressions: await arrays.float64('blocks.impressions', [blockCount]),
      byValue:
        sums === null
          ? null
          : {
              ...sums,
              clicks: await arrays.float64('sums.clicks', [sums.ids.length]),
              impressions: await arrays.float64('sums.impressions', [sums.ids.length]),
            },
    },
    isOfValues: await arrays.uint8('blocks.isOfValues', [blockCount]),
    isAlone: await arrays.uint8('blocks.isAlone', [blockCount]),
  };
}

/** Shards of so many bytes, which files of several exports do not have; the last one may be shorter. */
function shardsOf(files: readonly Uint8Array[], shardByteCount: number): Uint8Array[] {
  const shards: Uint8Array[] = [];
  let parts: Uint8Array[] = [];
  let byteCount = 0;
  const endShard = (): void => {
    shards.push(joinedFiles(parts, 'blocks'));
    parts = [];
    byteCount = 0;
  };
  for (const file of files)
    for (let start = 0; start < file.length;) {
      const part = file.subarray(start, start + shardByteCount - byteCount);
      parts.push(part);
      byteCount += part.length;
      start += part.length;
      if (byteCount === shardByteCount) endShard();
    }
  if (parts.length > 0) endShard();
  return shards;
}

/** Null without features. */
async function listsOf(
  arrays: BundleArrays,
  group: string,
  { features, blockCount }: { readonly features: readonly string[]; readonly blockCount: number },
): Promise<ValueLists | null> {
  if (features.length === 0) return null;
  const offsets = await arrays.int32(`${group}.offsets`, [blockCount * features.length + 1]);
  return {
    features,
    offsets,
    ids: await arrays.int32(`${group}.ids`, [at(offsets, offsets.length - 1)]),
  };
}

async function indexOf({ manifest, arrays }: BundleSource): Promise<KeyIndexArrays> {
  const blockCount = manifest.blocks.count;
  const slotCount = slotCountOf(blockCount);
  const keyOffsets = await arrays.uint32('keys.offsets', [blockCount + 1]);
  return {
    hashes: await arrays.uint32('index.hashes', [slotCount, 2]),
    blocks: await arrays.int32('index.blocks', [slotCount]),
    keyBytes: await arrays.uint8('keys.bytes', [uint32At(keyOffsets, blockCount)]),
    keyOffsets,
  };
}

async function encoderOf({ manifest, arrays }: BundleSource): Promise<RowEncoder> {
  const { features, encodedFeatures, columns } = manifest;
  const dictionaries = await dictionariesOf(encodedFeatures, arrays);
  const targetEncodings = await targetEncodingsOf(encodedFeatures, arrays);
  return rowEncoderOf({ features, encodedFeatures, dictionaries, targetEncodings, columns });
}

/** By name of the feature. */
export async function dictionariesOf(
  encodedFeatures: readonly EncodedFeature[],
  arrays: BundleArrays,
): Promise<Map<string, PackedDictionary>> {
  const found = new Map<string, PackedDictionary>();
  for (const feature of encodedFeatures) {
    if (feature.kind === 'number' || feature.encoding.by !== 'dictionary') continue;
    const { name, rowCount } = feature;
    const offsets = await arrays.uint32(`dictionaries/${name}.offsets`, [rowCount + 1]);
    const bytes = await arrays.uint8(`dictionaries/${name}.bytes`, [uint32At(offsets, rowCount)]);
    const slotCount = dictionarySlotCountOf(rowCount);
    const slots = await arrays.uint32(`dictionaries/${name}.index`, [slotCount]);
    found.set(name, { bytes, offsets, slots });
  }
  return found;
}

async function selfCheckOf({ manifest, arrays }: BundleSource): Promise<SelfCheck> {
  const [rowCount = 0] = arrays.shapeOf('selfCheck.blocks');
  const { encodedFeatures } = manifest;
  const rows = allocateEncodedRows(encodedFeatures, rowCount);
  const categories = await arrays.int32('selfCheck.categories', [
    rows.categoryIds.length,
    rowCount,
  ]);
  for (const [place, ids] of rows.categoryIds.entries())
    ids.set(categories.subarray(place * rowCount, (place + 1) * rowCount));
  const bags = encodedFeatures.flatMap((each) => (each.kind === 'bag' ? [each] : []));
  for (const [place, { name, lengthMax }] of bags.entries())
    at(rows.bagIds, place).set(await arrays.int32(`selfCheck.bag.${name}`, [rowCount, lengthMax]));
  const numbers = await arrays.float32('selfCheck.numbers', [rows.numbers.length, rowCount]);
  for (const [place, values] of rows.numbers.entries())
    values.set(numbers.subarray(place * rowCount, (place + 1) * rowCount));
  return {
    blocks: await arrays.int32('selfCheck.blocks', [rowCount]),
    rows,
    logits: await arrays.float32('selfCheck.logits', [rowCount]),
    expected: await arrays.float32('selfCheck.expected', [rowCount]),
  };
}

function unfit(where: string, what: string, expected: string, found: string): QianmoError {
  return errorOf('data', `the manifest of the bundle does not fit its model: ${what}`, {
    ...{ where, expected, found },
    cure: 'read it with the version that wrote it, or export the run again with `qianmo export`',
  });
}

/** By name of the encoding, as `targetEncodingNameOf` gives it. */
export async function targetEncodingsOf(
  encodedFeatures: readonly EncodedFeature[],
  arrays: BundleArrays,
): Promise<Map<string, TargetEncoding>> {
  const found = new Map<string, TargetEncoding>();
  for (const categories of targetEncodingsIn(encodedFeatures)) {
    const name = targetEncodingNameOf(categories);
    const shape = arrays.shapeOf(`${name}.rates`);
    const ids: Int32Array[] = [];
    for (const place of categories.keys())
      ids.push(await arrays.int32(`${name}.ids${place}`, shape));
    found.set(name, {
      ids,
      rates: await arrays.float32(`${name}.rates`, shape),
      counts: await arrays.float32(`${name}.counts`, shape),
    });
  }
  return found;
}
