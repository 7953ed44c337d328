/**
 * The scoring kernel beside other ways to give each candidate its adgroup's weights, in interleaved
 * rounds. Writes `infra/results/serving-kernel.json` and `.md`.
 *
 *   npm run bench -- serving kernel --rounds 12 --adgroups 1000000
 *   npm run bench -- serving kernel --python PATH     a Python with PyTorch; without it, one is installed
 */

import { mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scoringAddon } from '../../../infra/bootstrap/serving/scoring-addon.mjs';
import { packageRoot } from '../../../infra/library/package-root.js';
import { at } from '../../../shared/base/arrays.js';
import { KernelScorer, loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import { ReferenceScorer } from '../../../worker/serving/reference-scorer.js';
import { benchHeader } from '../bench-header.js';
import { withPeers } from '../inner-loops/sides/peers-environment.js';
import { kernelPage, type KernelRecord } from './kernel-page.js';
import {
  CANDIDATE_COUNT,
  CONTEXT_FEATURES,
  rankingModelOf,
  requestsOf,
  specOf,
  tablesOf,
} from './kernel-setting.js';
import { timedCalls, type SideTimes } from './kernel-measures.js';
import { startTorch } from './torch-peer.js';
import { benchOptions } from '../options/bench-options.js';
import { text, wholeNumber } from '../options/option-values.js';

const HEAD = [128, 64];

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(1, 1000),
    default: '12',
    about: 'how often everything is measured, in turns',
  },
  adgroups: {
    value: wholeNumber(1000, 4_000_000),
    default: '1000000',
    about: 'adgroups of the bundle',
  },
  python: {
    value: text,
    about: 'a Python with the peers installed; by default one is made in the cache',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { rounds, adgroups: adgroupCount } = options;

const header = benchHeader(packageRoot.pathname);
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
  const folder = mkdtempSync(join(tmpdir(), 'qianmo-kernel-'));
  const torch = await startTorch(python, folder, { model: head, requests });
  try {
    const checks = join(folder, 'check');
    mkdirSync(checks);
    await torch.check(checks, 120_000);
    const bytes = readFileSync(join(checks, 'logits.bin'));
    const found = new Float32Array(bytes.buffer, bytes.byteOffset, CANDIDATE_COUNT);
    const differences = checkedSides(found);
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
    const record: KernelRecord = {
      ...header,
      rounds,
      adgroupCount,
      kernels,
      times,
      differences,
    };
    mkdirSync(options.output, { recursive: true });
    const page = kernelPage(record);
    writeFileSync(join(options.output, 'serving-kernel.json'), `${JSON.stringify(record)}\n`);
    writeFileSync(join(options.output, 'serving-kernel.md'), page);
    console.log(page);
  } finally {
    await torch.end();
    rmSync(folder, { recursive: true, force: true });
  }
});

function allSides(): Side[] {
  const reference = new ReferenceScorer(head, CONTEXT_FEATURES);
  const kernelOf = (model: typeof head, kernel?: string): Score => {
    const scorer = new KernelScorer(addon, model, CONTEXT_FEATURES, kernel);
    return (request, found) => scorer.score(request, found);
  };
  const other = (personal: 'embedding' | 'head', encoding: 'float32' | 'float16' | 'int8') =>
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
    { name: 'kernel int8', callCount: 40, score: other('head', 'int8') },
    { name: 'shared head', callCount: 40, score: other('embedding', 'float32') },
    {
      name: 'typescript',
      callCount: 2,
      score: (request, found) => reference.score(request, found),
    },
  ];
}

function timedTurn({ callCount, score }: Side, round: number): SideTimes {
  return timedCalls(callCount, (call) =>
    score(at(requests, (round * callCount + call) % requests.length), logits),
  );
}

/** Largest differences of the logits from those of plain TypeScript. */
function checkedSides(ofTorch: Float32Array): Record<string, number> {
  const expected = new Float32Array(CANDIDATE_COUNT);
  const request = at(requests, 0);
  new ReferenceScorer(head, CONTEXT_FEATURES).score(request, expected);
  const largest = (found: Float32Array): number =>
    expected.reduce((most, value, index) => Math.max(most, Math.abs(value - at(found, index))), 0);
  new KernelScorer(addon, head, CONTEXT_FEATURES).score(request, logits);
  return { kernel: largest(logits), torch: largest(ofTorch) };
}
