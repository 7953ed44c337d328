/** The bench's model and requests as files for PyTorch, and its process. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { at } from '../../../shared/base/arrays.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import { startSide, type SideProcess } from '../inner-loops/sides/side-process.js';
import { peerScript } from '../inner-loops/sides/sides.js';
import { CONTEXT_FEATURES } from './kernel-setting.js';

const ROW_WIDTH = 17;
const CANDIDATE_FIELDS = 4;
const DENSE = ['layer0.weight', 'layer0.bias', 'layer1.weight', 'layer1.bias'];

interface TorchCase {
  readonly model: RankingModel;
  readonly requests: readonly RankingRequest[];
}

export async function startTorch(
  python: string,
  folder: string,
  { model, requests }: TorchCase,
): Promise<SideProcess> {
  mkdirSync(folder, { recursive: true });
  const joined = joinedTables(model);
  const shapes: Record<string, readonly number[]> = {};
  const write = (
    name: string,
    shape: readonly number[],
    values: Float32Array | Int32Array,
  ): void => {
    shapes[name] = shape;
    writeFileSync(join(folder, `${name}.bin`), values);
  };
  write('tables', [joined.values.length / ROW_WIDTH, ROW_WIDTH], joined.values);
  const blocks = joinedBlocks(model);
  write('blocks', [model.blocks.blockCount, blocks.length / model.blocks.blockCount], blocks);
  for (const name of DENSE) {
    const tensor = model.dense.get(name);
    if (tensor !== undefined) write(name, tensor.shape, tensor.values);
  }
  const ids = requests.map((request) => joinedIds(joined.firstRows, request));
  const joinedOf = (parts: readonly Int32Array[]): Int32Array =>
    Int32Array.from(parts.flatMap((part) => [...part]));
  write('contexts', [requests.length, -1], joinedOf(ids.map(({ context }) => context)));
  write('rows', [requests.length, -1], joinedOf(ids.map(({ rows }) => rows)));
  write('adgroups', [requests.length, -1], joinedOf(requests.map((request) => request.blocks)));
  const about = {
    shapes,
    embeddingAt: floatOffset(model, 'adgroupEmbedding'),
    outputAt: floatOffset(model, 'output.weight'),
    biasAt: floatOffset(model, 'bias'),
  };
  writeFileSync(join(folder, 'serving.json'), JSON.stringify(about));
  return startSide({
    command: python,
    args: [peerScript('serving_side.py'), JSON.stringify({ folder, threadCount: 1 })],
    environment: { ...process.env, OMP_NUM_THREADS: '1' },
    core: null,
  });
}

/** All tables below each other, and the first row of each. */
function joinedTables({ tables }: Pick<RankingModel, 'tables'>): {
  readonly values: Float32Array;
  readonly firstRows: readonly number[];
} {
  const all = [...tables.values()];
  const values = new Float32Array(all.reduce((sum, table) => sum + table.values.length, 0));
  let end = 0;
  const firstRows = all.map((table) => {
    values.set(table.values, end * ROW_WIDTH);
    end += table.rowCount;
    return end - table.rowCount;
  });
  return { values, firstRows };
}

/** Ids as rows of the joined tables. */
function joinedIds(
  firstRows: readonly number[],
  request: RankingRequest,
): {
  readonly context: Int32Array;
  readonly rows: Int32Array;
} {
  const contextCount = CONTEXT_FEATURES.length;
  return {
    context: request.contextIds.map((id, field) => id + at(firstRows, field)),
    rows: request.candidateIds.map(
      (id, place) => id + at(firstRows, contextCount + (place % CANDIDATE_FIELDS)),
    ),
  };
}

/** Blocks in float32, `[blockCount, stride in floats]`. */
function joinedBlocks({ blocks }: RankingModel): Float32Array {
  const floats = new Float32Array((blocks.blockCount * blocks.layout.strideByteCount) / 4);
  let end = 0;
  for (const { buffer, byteOffset, byteLength } of blocks.shards) {
    floats.set(new Float32Array(buffer, byteOffset, byteLength / 4), end);
    end += byteLength / 4;
  }
  return floats;
}

/** Where a part begins in a block, in floats. */
function floatOffset({ blocks }: RankingModel, name: string): number {
  const part = blocks.layout.parts.find((each) => each.name === name);
  if (part?.encoding !== 'float32') throw new Error(`no part ${name} in float32`);
  return part.byteOffset / 4;
}
