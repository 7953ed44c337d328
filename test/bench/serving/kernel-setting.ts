/**
 * The setting of the kernel's bench: a DeepFM with 6 context and 4 candidate fields and an adgroup
 * embedding, width 16, tables of up to a million rows. A request is one context and candidates of
 * different adgroups, drawn uniformly, so that hardly a block is in a cache.
 */

import { at, median } from '../../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { writeBlock, blockLayoutOf } from '../../../shared/bundle/block-codec.js';
import type {
  BlockEncoding,
  PersonalBlocks,
  RankingModel,
} from '../../../shared/bundle/ranking-model.js';
import {
  initialMetaParameters,
  type MetaParameters,
} from '../../../shared/models/meta-parameters.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { modelSpecOf, type ModelSpec } from '../../../shared/models/model-spec.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';

export const CONTEXT_ROWS = [1_000_000, 1000, 24, 100, 64, 10_000];
export const CANDIDATE_ROWS = [1000, 100_000, 100_000, 1_000_000];
export const CONTEXT_FEATURES = CONTEXT_ROWS.map((_, index) => `context${index}`);
const CANDIDATE_FEATURES = CANDIDATE_ROWS.map((_, index) => `candidate${index}`);
export const CANDIDATE_COUNT = 500;

/** Different blocks, repeated until every adgroup has one: what lies in memory differs, what it costs not. */
const DISTINCT_BLOCKS = 1000;
const SHARD_BLOCKS = 2 ** 17;

/** What an adgroup has of its own. */
export const PERSONAL = {
  embedding: ['adgroupEmbedding'],
  head: ['bias', 'adgroupEmbedding', 'output'],
} as const;

export function specOf(
  personal: keyof typeof PERSONAL,
  hiddenWidths: readonly number[],
): ModelSpec {
  const model = ModelConfigSchema.parse({
    ...{ kind: 'deepfm', embeddingWidth: 16, hiddenWidths, adgroupEmbedding: true },
    personal: PERSONAL[personal],
  });
  return modelSpecOf(model, encodedFeaturesOf());
}

type CategoryFeature = Extract<EncodedFeature, { kind: 'category' }>;

/** Those of the context, then those of the candidates. */
export function encodedFeaturesOf(): CategoryFeature[] {
  const featuresOf = (names: readonly string[], rows: readonly number[]): CategoryFeature[] =>
    names.map((name, index) => ({
      ...{ name, kind: 'category', rowCount: at(rows, index), encoding: { by: 'dictionary' } },
    }));
  return [
    ...featuresOf(CONTEXT_FEATURES, CONTEXT_ROWS),
    ...featuresOf(CANDIDATE_FEATURES, CANDIDATE_ROWS),
  ];
}

/** The tables of every model here, made once. */
export function tablesOf(seed: number): MetaParameters['tables'] {
  const { tables } = initialMetaParameters(specOf('head', [128, 64]), seed);
  const random = randomStream(seed, 'linear');
  // Linear weights start at 0, and a trained model has others.
  for (const { values, width } of tables.values())
    for (let end = width - 1; end < values.length; end += width)
      values[end] = 0.1 * (random.uniform() - 0.5);
  return tables;
}

export function rankingModelOf(
  spec: ModelSpec,
  tables: MetaParameters['tables'],
  { encoding, adgroupCount }: { readonly encoding: BlockEncoding; readonly adgroupCount: number },
): RankingModel {
  const random = randomStream(7, 'dense');
  const dense = new Map(
    spec.variables.map(({ name, shape }) => {
      const deviation = shape.length === 2 ? Math.sqrt(2 / at(shape, 0)) : 0.1;
      const size = shape.reduce((product, extent) => product * extent, 1);
      return [
        name,
        { shape, values: Float32Array.from({ length: size }, () => deviation * random.normal()) },
      ];
    }),
  );
  const blocks = blocksOf({ spec, dense }, encoding, adgroupCount);
  return { spec, dense, tables, blocks };
}

function blocksOf(
  { spec, dense }: Pick<RankingModel, 'spec' | 'dense'>,
  encoding: BlockEncoding,
  blockCount: number,
): PersonalBlocks {
  const layout = blockLayoutOf(spec, encoding);
  const stride = layout.strideByteCount;
  const some = new Uint8Array(DISTINCT_BLOCKS * stride);
  const random = randomStream(11, 'blocks');
  for (let block = 0; block < DISTINCT_BLOCKS; block += 1) {
    const variables = new Map(
      layout.parts.map(({ name, shape }) => {
        const own = dense.get(name)?.values ?? new Float32Array();
        return [name, { shape, values: own.map((value) => value + 0.05 * random.normal()) }];
      }),
    );
    const bytes = some.subarray(block * stride, (block + 1) * stride);
    writeBlock(layout, variables, bytes);
  }
  const shards: Uint8Array[] = [];
  for (let first = 0; first < blockCount; first += SHARD_BLOCKS) {
    const count = Math.min(SHARD_BLOCKS, blockCount - first);
    const shard = new Uint8Array(count * stride);
    for (let block = 0; block < count; block += DISTINCT_BLOCKS)
      shard.set(
        some.subarray(0, Math.min(DISTINCT_BLOCKS, count - block) * stride),
        block * stride,
      );
    shards.push(shard);
  }
  const none = new Uint8Array(blockCount);
  const zeros = new Float64Array(blockCount);
  return {
    ...{ layout, blockCount, shards, blocksPerShard: SHARD_BLOCKS },
    evidence: {
      supportRowCounts: new Uint32Array(blockCount),
      ...{ clicks: zeros, impressions: zeros, byValue: null },
    },
    ...{ isOfValues: none, isAlone: none },
  };
}

export function requestsOf(count: number, adgroupCount: number, seed: number): RankingRequest[] {
  const random = randomStream(seed, 'requests');
  return Array.from({ length: count }, () => requestOf(random, adgroupCount));
}

function requestOf(random: RandomStream, adgroupCount: number): RankingRequest {
  const blocks = new Set<number>();
  while (blocks.size < CANDIDATE_COUNT) blocks.add(random.below(adgroupCount));
  return {
    candidateCount: CANDIDATE_COUNT,
    blocks: Int32Array.from(blocks),
    contextIds: Int32Array.from(CONTEXT_ROWS, (rows) => random.below(rows)),
    candidateIds: Int32Array.from(
      { length: CANDIDATE_COUNT * CANDIDATE_FEATURES.length },
      (_, index) => random.below(at(CANDIDATE_ROWS, index % CANDIDATE_ROWS.length)),
    ),
    ...{ contextNumbers: new Float32Array(0), candidateNumbers: new Float32Array(0) },
  };
}

/** Microseconds of a request in one turn of a side. */
export interface SideTimes {
  readonly medianUs: number;
  readonly leastUs: number;
  /** Processor time, all threads; what other programs take is not in it. */
  readonly cpuUs: number;
}

export function timedCalls(callCount: number, call: (index: number) => void): SideTimes {
  // The turn of another side has filled the caches.
  call(callCount);
  const wallUs: number[] = [];
  const before = process.cpuUsage();
  for (let index = 0; index < callCount; index += 1) {
    const start = process.hrtime.bigint();
    call(index);
    wallUs.push(Number(process.hrtime.bigint() - start) / 1000);
  }
  const { user, system } = process.cpuUsage(before);
  return {
    medianUs: median(wallUs),
    leastUs: Math.min(...wallUs),
    cpuUs: (user + system) / callCount,
  };
}
