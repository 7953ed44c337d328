/**
 * The scoring kernel against other ways to give each candidate its adgroup's weights, in interleaved
 * rounds. Writes `infra/results/serving-kernel.json` and `.md`.
 *
 *   npm run bench -- serving kernel --rounds 12 --adgroups 1000000
 *   npm run bench -- serving kernel --python PATH     a Python with PyTorch; without it, one is installed
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { at, median } from '../../../shared/base/arrays.js';
import { KernelScorer, loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import {
  benchHeader,
  circumstances,
  grouped,
  markdownTable,
  writeResult,
  type BenchHeader,
} from '../bench-header.js';
import { withPeers } from '../inner-loops/sides/peers-environment.js';
import {
  CANDIDATE_COUNT,
  CONTEXT_FEATURES,
  rankingModelOf,
  requestsOf,
  specOf,
  tablesOf,
  timedCalls,
  type SideTimes,
} from './kernel-setting.js';
import { benchOptions } from '../bench-options.js';
import { outputOption, pythonOption, roundsOption, wholeNumber } from '../option-values.js';
import { counted } from '../../../shared/names/counted.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { startSide, type SideProcess } from '../inner-loops/sides/side-process.js';
import { peerScript } from '../inner-loops/sides/sides.js';
import { scratchFolder } from '../scratch-folder.js';

const ROW_WIDTH = 17;
const CANDIDATE_FIELDS = 4;
const DENSE = ['layer0.weight', 'layer0.bias', 'layer1.weight', 'layer1.bias'];

interface TorchCase {
  readonly model: RankingModel;
  readonly requests: readonly RankingRequest[];
}

async function startTorch(
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

interface KernelRecord extends BenchHeader {
  readonly rounds: number;
  readonly adgroupCount: number;
  /** Instruction sets of the kernel on this machine, the one that runs first. */
  readonly kernels: readonly string[];
  readonly times: Readonly<Record<string, readonly SideTimes[]>>;
  /** Largest difference of a logit from PyTorch. */
  readonly difference: number;
}

const SAID: Readonly<Record<string, string>> = {
  kernel: 'kernel, head blocks in float32',
  'kernel portable': 'the same on portable code',
  'kernel float16': 'kernel, head blocks in float16',
  'shared head': 'kernel, one shared head and an ID embedding',
  torch: 'PyTorch, gathered weights, context once',
};

const MEASURES = ['cpuUs', 'medianUs', 'leastUs'] as const;

function kernelPage(record: KernelRecord): string {
  const { times } = record;
  const named = Object.keys(SAID).filter((name) => (times[name]?.length ?? 0) > 0);
  return [
    ...['# The scoring kernel', ''],
    `${circumstances(record)} ${counted(record.rounds, 'round')}; in each, every way has a turn.`,
    `A request is one context (6 fields) and 500 candidates (4 fields and the adgroup's embedding) of 500 of ${grouped(record.adgroupCount)} adgroups:`,
    'DeepFM, width 16, tower 176-128-64-1, tables of up to a million rows. A head block is bias, embedding and output layer.',
    `Fastest instruction set here: ${record.kernels[0] ?? 'portable'}. Microseconds a request: medians over the rounds, and the least of all calls.`,
    '',
    ...markdownTable(
      ['way', 'processor time', 'wall, median', 'wall, least'],
      named.map((name) => [
        SAID[name] ?? name,
        ...MEASURES.map((measure) => grouped(Math.round(overRounds(times[name] ?? [], measure)))),
      ]),
    ),
    '',
    `Largest difference of a logit from PyTorch in the same float32 blocks: ${record.difference.toExponential(1)}.`,
    '',
  ].join('\n');
}

function overRounds(turns: readonly SideTimes[], measure: (typeof MEASURES)[number]): number {
  const values = turns.map((turn) => turn[measure]);
  return measure === 'leastUs' ? Math.min(...values) : median(values);
}

const HEAD = [128, 64];

const options = benchOptions(import.meta.url, {
  rounds: roundsOption('12'),
  adgroups: {
    value: wholeNumber(1000, 4_000_000),
    default: '1000000',
    about: 'adgroups of the bundle',
  },
  python: pythonOption,
  output: outputOption,
});
const { rounds, adgroups: adgroupCount } = options;

const header = benchHeader();
await scoringAddon.install((text) => console.log(text), { retry: true });
const addon = loadScoringAddon(scoringAddon.path());
const tables = tablesOf(3);
const requests = requestsOf(200, adgroupCount, 5);
const logits = new Float32Array(CANDIDATE_COUNT);
const head = rankingModelOf(specOf('head', HEAD), tables, { encoding: 'float32', adgroupCount });

type Score = (request: RankingRequest, logits: Float32Array) => void;

interface Side {
  readonly name: string;
  /** Calls of a turn. */
  readonly callCount: number;
  readonly score: Score;
}

const sides = allSides();
const times: Record<string, SideTimes[]> = Object.fromEntries(
  [...sides.map(({ name }) => name), 'torch'].map((name) => [name, []]),
);
await withPeers(options.python, async ({ python }) => {
  const folder = scratchFolder('kernel');
  const torch = await startTorch(python, folder, { model: head, requests });
  try {
    const checks = join(folder, 'check');
    mkdirSync(checks);
    await torch.check(checks, 120_000);
    const bytes = readFileSync(join(checks, 'logits.bin'));
    const found = new Float32Array(bytes.buffer, bytes.byteOffset, CANDIDATE_COUNT);
    const difference = largestDifference(found);
    for (let round = 0; round < rounds; round += 1) {
      for (const side of sides) times[side.name]?.push(timedTurn(side, round));
      const { medianMs, minMs, stepCount, cpuMs } = await torch.run(60);
      times['torch']?.push({
        ...{
          medianUs: 1000 * medianMs,
          leastUs: 1000 * minMs,
          cpuUs: (1000 * cpuMs) / (stepCount + 1),
        },
      });
      console.log(`round ${round + 1} of ${rounds}`);
    }
    const kernels = addon.kernels();
    const record = { ...header, rounds, adgroupCount, kernels, times, difference };
    writeResult(options.output, 'serving-kernel', record, kernelPage(record));
  } finally {
    await torch.end();
  }
});

function allSides(): Side[] {
  const kernelOf = (model: typeof head, kernel?: string): Score => {
    const scorer = new KernelScorer(addon, model, CONTEXT_FEATURES, kernel);
    return (request, found) => scorer.score(request, found);
  };
  const other = (personal: 'embedding' | 'head', encoding: 'float32' | 'float16') =>
    kernelOf(rankingModelOf(specOf(personal, HEAD), tables, { encoding, adgroupCount }));
  return [
    { name: 'kernel', callCount: 40, score: kernelOf(head) },
    ...addon
      .kernels()
      .slice(1)
      .map((kernel) => ({
        ...{ name: `kernel ${kernel}`, callCount: 20, score: kernelOf(head, kernel) },
      })),
    { name: 'kernel float16', callCount: 40, score: other('head', 'float16') },
    { name: 'shared head', callCount: 40, score: other('embedding', 'float32') },
  ];
}

function timedTurn({ callCount, score }: Side, round: number): SideTimes {
  return timedCalls(callCount, (call) =>
    score(at(requests, (round * callCount + call) % requests.length), logits),
  );
}

/** The largest difference of the kernel's logits from those of PyTorch. */
function largestDifference(ofTorch: Float32Array): number {
  new KernelScorer(addon, head, CONTEXT_FEATURES).score(at(requests, 0), logits);
  return logits.reduce(
    (most, value, place) => Math.max(most, Math.abs(value - at(ofTorch, place))),
    0,
  );
}
