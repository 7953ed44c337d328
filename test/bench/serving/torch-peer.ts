/** The bench's model and requests as files for PyTorch, and its process. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import { startSide, type SideProcess } from '../inner-loops/sides/side-process.js';
import { peerScript } from '../inner-loops/sides/sides.js';
import { floatOffset, joinedBlocks, joinedIds, type joinedTables } from './graph-sides.js';

const DENSE = ['layer0.weight', 'layer0.bias', 'layer1.weight', 'layer1.bias'];

interface TorchCase {
  readonly model: RankingModel;
  readonly joined: ReturnType<typeof joinedTables>;
  readonly requests: readonly RankingRequest[];
}

export async function startTorch(
  python: string,
  folder: string,
  { model, joined, requests }: TorchCase,
): Promise<SideProcess> {
  mkdirSync(folder, { recursive: true });
  const shapes: Record<string, readonly number[]> = {};
  const write = (
    name: string,
    shape: readonly number[],
    values: Float32Array | Int32Array,
  ): void => {
    shapes[name] = shape;
    writeFileSync(join(folder, `${name}.bin`), values);
  };
  write('tables', [joined.values.length / 17, 17], joined.values);
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
