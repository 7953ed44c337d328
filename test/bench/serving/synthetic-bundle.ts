/** A bundle of the kernel bench's setting, with any number of adgroups, written without training. */

import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { at } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { writeArray, type NamedArray } from '../../../shared/bundle/array-files.js';
import type { BundleArray, BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import { publishBundle } from '../../../shared/bundle/bundle-store.js';
import { buildKeyIndex } from '../../../shared/bundle/key-index.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { ObjectBlobStore } from '../../../shared/storage/blob-store.js';
import type { PackedDictionary } from '../../../shared/features/packed-dictionary.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { KernelScorer, loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import {
  CANDIDATE_ROWS,
  CONTEXT_FEATURES,
  CONTEXT_ROWS,
  PERSONAL,
  rankingModelOf,
  requestsOf,
  specOf,
  tablesOf,
} from './kernel-setting.js';
import { MANIFEST } from '../../fixtures/bundle/published-bundles.js';

const SELF_CHECK_ROWS = 100;
const HIDDEN_WIDTHS = [128, 64];

interface SyntheticTerms {
  readonly adgroupCount: number;
  /** Bundles of different scales have different scores. */
  readonly scale: number;
  /** Keys and values as texts; the values are hashed if absent. */
  readonly texts?: {
    readonly keyOf: (adgroup: number) => string;
    readonly dictionaries: ReadonlyMap<string, PackedDictionary>;
  };
}

/** The key of an adgroup, from 0 on. */
export function syntheticKey(adgroup: number): string {
  return `adgroup-${adgroup}`;
}

/** Publishes the bundle and returns its digest. */
export async function writeSyntheticBundle(
  store: ObjectStore,
  { adgroupCount, scale, texts }: SyntheticTerms,
): Promise<string> {
  const blockCount = adgroupCount + 1;
  const model = rankingModelOf(specOf('head', HIDDEN_WIDTHS), tablesOf(3), {
    ...{ encoding: 'float32', adgroupCount: blockCount },
  });
  // Files of equal bytes would be one file, and one place in memory.
  for (const [place, shard] of model.blocks.shards.entries()) {
    const values = new Float32Array(shard.buffer, shard.byteOffset, shard.byteLength / 4);
    for (let index = 0; index < values.length; index += 1)
      values[index] = scale * (1 + place / 1_000) * (values[index] ?? NaN);
  }
  const blobs = new ObjectBlobStore(store);
  const index = buildKeyIndex(
    Array.from({ length: adgroupCount }, (_, each) => (texts?.keyOf ?? syntheticKey)(each)),
  );
  const { hashes, blocks, keyBytes, keyOffsets } = index;
  const arrays: BundleArray[] = [];
  const named: NamedArray[] = [
    ...parameterArrays(model),
    ...evidenceArrays(model),
    { name: 'index.hashes', shape: [blocks.length, 2], values: hashes },
    { name: 'index.blocks', shape: [blocks.length], values: blocks },
    { name: 'keys.bytes', shape: [keyBytes.length], values: new Uint8Array(keyBytes) },
    { name: 'keys.offsets', shape: [keyOffsets.length], values: keyOffsets },
    ...selfCheckArrays(model),
    ...[...(texts?.dictionaries ?? [])].flatMap(([feature, parts]) =>
      Object.entries({ bytes: parts.bytes, offsets: parts.offsets, index: parts.slots }).map(
        ([part, values]): NamedArray => ({
          ...{ name: `dictionaries/${feature}.${part}`, shape: [values.length], values },
        }),
      ),
    ),
  ];
  for (const array of named) arrays.push(await writeArray(array, (bytes) => blobs.put(bytes)));
  const { layout, shards } = model.blocks;
  const files = [];
  for (const shard of shards) files.push(await blobs.put(shard));
  arrays.push({ name: 'blocks', type: 'U8', shape: [blockCount, layout.strideByteCount], files });
  const areHashed = texts === undefined;
  const manifest = manifestOf(model, arrays, { areHashed });
  return (await publishBundle(store, manifest)).digest;
}

function parameterArrays({ spec, dense, tables }: RankingModel): NamedArray[] {
  const valuesOf = (name: string): Float32Array => dense.get(name)?.values ?? new Float32Array();
  return [
    ...spec.variables.map(({ name, shape }) => ({
      ...{ name: `dense/${name}`, shape, values: valuesOf(name) },
    })),
    ...spec.tables.map(({ name, rowCount }) => ({
      ...{ name: `tables/${name}`, shape: [rowCount, spec.tableRowWidth] },
      values: tables.get(name)?.values ?? new Float32Array(),
    })),
  ];
}

function evidenceArrays({ blocks }: RankingModel): NamedArray[] {
  const { blockCount, evidence, isOfValues, isAlone } = blocks;
  const values = {
    ...{ supportRowCounts: evidence.supportRowCounts, clicks: evidence.clicks },
    ...{ impressions: evidence.impressions, isOfValues, isAlone },
    ...{ labels: new Int32Array(blockCount), offsets: new Float32Array(blockCount) },
  };
  return Object.entries(values).map(([name, array]) => ({
    ...{ name: `blocks.${name}`, shape: [blockCount], values: array },
  }));
}

function selfCheckArrays(model: RankingModel): NamedArray[] {
  const n = SELF_CHECK_ROWS;
  const request = at(requestsOf(1, model.blocks.blockCount, 5), 0);
  const contextCount = CONTEXT_ROWS.length;
  const candidateCount = CANDIDATE_ROWS.length;
  const categories = new Int32Array((contextCount + candidateCount) * n);
  for (let row = 0; row < n; row += 1) {
    for (let feature = 0; feature < contextCount; feature += 1)
      categories[feature * n + row] = at(request.contextIds, feature);
    for (let feature = 0; feature < candidateCount; feature += 1)
      categories[(contextCount + feature) * n + row] = at(
        request.candidateIds,
        row * candidateCount + feature,
      );
  }
  const logits = new Float32Array(n);
  const addon = loadScoringAddon(scoringAddon.path());
  new KernelScorer(addon, model, CONTEXT_FEATURES).score({ ...request, candidateCount: n }, logits);
  return [
    { name: 'selfCheck.blocks', shape: [n], values: request.blocks.slice(0, n) },
    { name: 'selfCheck.logits', shape: [n], values: logits },
    { name: 'selfCheck.expected', shape: [n], values: logits.map(sigmoid) },
    { name: 'selfCheck.categories', shape: [contextCount + candidateCount, n], values: categories },
    { name: 'selfCheck.numbers', shape: [0, n], values: new Float32Array() },
  ];
}

interface ManifestTerms {
  readonly areHashed: boolean;
}

function manifestOf(
  { spec, blocks }: RankingModel,
  arrays: readonly BundleArray[],
  { areHashed }: ManifestTerms,
): BundleManifest {
  const rowCounts = [...CONTEXT_ROWS, ...CANDIDATE_ROWS];
  const features = spec.categoryFeatures.map((name, place) => ({
    ...{ name, rowCount: at(rowCounts, place), buckets: at(rowCounts, place) - 1 },
  }));
  return {
    ...MANIFEST,
    model: ModelConfigSchema.parse({
      ...{ kind: 'deepfm', embeddingWidth: 16, hiddenWidths: HIDDEN_WIDTHS },
      ...{ adgroupEmbedding: true, personal: PERSONAL.head },
    }),
    features: features.map(({ name, buckets }) => ({
      ...{ name, kind: 'category', countMin: 1, ...(areHashed ? { hashBuckets: buckets } : {}) },
    })),
    encodedFeatures: features.map(({ name, rowCount, buckets }) => ({
      ...{ name, kind: 'category', rowCount },
      encoding: areHashed ? { by: 'hash', buckets } : { by: 'dictionary' },
    })),
    blocks: {
      ...{ count: blocks.blockCount, encoding: 'float32', rows: 'support' },
      ...{ strideByteCount: blocks.layout.strideByteCount, blocksPerFile: blocks.blocksPerShard },
    },
    arrays: [...arrays].sort((first, second) => (first.name < second.name ? -1 : 1)),
  };
}
