/**
 * Swaps of a bundle under load: requests come on schedule whether answers do or not, each answer is held
 * against the bundle that it names, and the label moves again and again. Writes
 * `infra/results/serving-swap.{md,json}`.
 *
 *   npm run bench:swap -- --adgroups 1000000 --swaps 100 --rate 300
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { scoringAddon } from '../../../infra/bootstrap/serving/scoring-addon.mjs';
import { packageRoot } from '../../../infra/library/package-root.js';
import { at } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';
import { randomStream } from '../../../shared/base/random.js';
import { moveLabel } from '../../../shared/bundle/bundle-labels.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { startCommand } from '../../fixtures/commands/command.js';
import { benchHeader, markdownTable } from '../bench-header.js';
import { CANDIDATE_ROWS, CONTEXT_ROWS } from './kernel-setting.js';
import { syntheticKey, writeSyntheticBundle } from './synthetic-bundle.js';

const { values: options } = parseArgs({
  options: {
    adgroups: { type: 'string', default: '1000000' },
    candidates: { type: 'string', default: '500' },
    swaps: { type: 'string', default: '100' },
    /** Requests a second. */
    rate: { type: 'string', default: '300' },
    /** Of load before the first swap. */
    seconds: { type: 'string', default: '30' },
    output: { type: 'string', default: new URL('infra/results/', packageRoot).pathname },
  },
});
const count = z.coerce.number().int().positive().max(4_000_000);
const adgroupCount = count.min(1000).parse(options.adgroups);
const candidateCount = count.max(5000).parse(options.candidates);
const swapCount = count.parse(options.swaps);
const rate = count.parse(options.rate);
const seconds = count.parse(options.seconds);

const BODY_COUNT = 50;
const SETTLE_MS = 1_000;
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const header = benchHeader(packageRoot.pathname);
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = mkdtempSync(join(tmpdir(), 'qianmo-swap-'));

interface Answered {
  readonly latencyMs: number;
  readonly bundle: string;
  readonly scores: readonly number[];
}

const AnswerSchema = z.object({ bundle: z.string(), scores: z.array(z.number()) });

/** Requests at their times, whether earlier ones are answered or not. */
class OpenLoop {
  readonly #ask: (turn: number) => Promise<number | null>;
  #turn = 0;

  constructor(ask: (turn: number) => Promise<number | null>) {
    this.#ask = ask;
  }

  /** Latencies from the scheduled times, in milliseconds. */
  async during(work: () => Promise<void>): Promise<number[]> {
    const latencies: number[] = [];
    const open = new Set<Promise<void>>();
    const over = new AbortController();
    const worked = work().finally(() => over.abort());
    const startMs = systemClock.monotonicMs();
    for (let sent = 0; !over.signal.aborted; sent += 1) {
      const dueMs = startMs + (sent * 1000) / rate;
      const waitMs = dueMs - systemClock.monotonicMs();
      if (waitMs > 0) await systemClock.sleep(waitMs);
      const sentMs = systemClock.monotonicMs();
      const turn = this.#turn++;
      const asking = this.#ask(turn).then((latencyMs) => {
        if (latencyMs !== null) latencies.push(latencyMs + sentMs - dueMs);
        open.delete(asking);
      });
      open.add(asking);
    }
    await worked;
    await Promise.all(open);
    return latencies;
  }
}

try {
  const store = new FileObjectStore({ folder });
  const digests = [
    await writeSyntheticBundle(store, { adgroupCount, scale: 1 }),
    await writeSyntheticBundle(store, { adgroupCount, scale: 1.25 }),
  ];
  await moveLabel(store, 'latest', at(digests, 0));
  const words = ['serve', '--bundle', folder, '--port', '0', '--poll-seconds', '0.1'];
  const startMs = systemClock.monotonicMs();
  const command = startCommand([...words, '--format', 'json'], folder);
  const [line] = await command.printed(/^\{.*\}$/m);
  const readyMs = systemClock.monotonicMs() - startMs;
  const { url } = z.object({ url: z.string() }).parse(JSON.parse(line));
  const record = {
    ...header,
    ...(await measured(store, digests, { url, pid: command.pid })),
    readyMs,
  };
  command.signal('SIGTERM');
  await command.ended;
  mkdirSync(options.output, { recursive: true });
  writeFileSync(join(options.output, 'serving-swap.json'), `${JSON.stringify(record)}\n`);
  writeFileSync(join(options.output, 'serving-swap.md'), pageOf(record));
  console.log(pageOf(record));
} finally {
  agent.destroy();
  rmSync(folder, { recursive: true, force: true });
}

interface Served {
  readonly url: string;
  readonly pid: number;
}

async function measured(store: FileObjectStore, digests: readonly string[], { url, pid }: Served) {
  const bodies = Array.from({ length: BODY_COUNT }, (_, seed) => bodyOf(seed));
  const expected = new Map<string, (readonly number[])[]>();
  for (const digest of [...digests, at(digests, 0)]) {
    await swapped(store, url, digest);
    const answers = [];
    for (const body of bodies) answers.push((await asked(url, body)).scores);
    expected.set(digest, answers);
  }
  const tally = { failed: 0, wrong: 0 };
  const load = new OpenLoop(async (turn) => {
    const body = turn % BODY_COUNT;
    try {
      const { bundle, scores, latencyMs } = await asked(url, at(bodies, body));
      const wanted = expected.get(bundle)?.[body];
      if (wanted === undefined || scores.some((score, index) => score !== wanted[index]))
        tally.wrong += 1;
      return latencyMs;
    } catch {
      tally.failed += 1;
      return null;
    }
  });
  const before = await load.during(() => systemClock.sleep(seconds * 1000));
  const residentMiB: number[] = [];
  const during = await load.during(async () => {
    for (let swap = 1; swap <= swapCount; swap += 1) {
      await swapped(store, url, at(digests, swap % 2));
      await systemClock.sleep(SETTLE_MS);
      residentMiB.push(residentMiBOf(pid));
    }
  });
  return {
    ...{ adgroupCount, candidateCount, swapCount, rate, ...tally },
    ...{ before: quantilesOf(before), during: quantilesOf(during), residentMiB },
  };
}

function bodyOf(seed: number): string {
  const random = randomStream(seed, 'bodies');
  const adgroups = new Set<number>();
  while (adgroups.size < candidateCount) adgroups.add(random.below(adgroupCount));
  return JSON.stringify({
    context: Object.fromEntries(
      CONTEXT_ROWS.map((rows, place) => [`context${place}`, `value-${random.below(rows)}`]),
    ),
    columns: {
      adgroup: [...adgroups].map(syntheticKey),
      features: Object.fromEntries(
        CANDIDATE_ROWS.map((rows, place) => [
          `candidate${place}`,
          Array.from({ length: candidateCount }, () => `value-${random.below(rows)}`),
        ]),
      ),
    },
  });
}

function asked(url: string, body: string): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const sentMs = systemClock.monotonicMs();
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    const sent = httpRequest(`${url}/v1/score`, { method: 'POST', agent, headers }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        const latencyMs = systemClock.monotonicMs() - sentMs;
        const text = Buffer.concat(pieces).toString('utf8');
        if (response.statusCode !== 200) reject(new Error(text));
        else resolve({ latencyMs, ...AnswerSchema.parse(JSON.parse(text)) });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Moves the label and waits until the bundle is served. */
async function swapped(store: FileObjectStore, url: string, digest: string): Promise<void> {
  await moveLabel(store, 'latest', digest);
  for (;;) {
    const answer = await fetch(`${url}/v1/bundle`);
    const { bundle } = z.object({ bundle: z.string() }).parse(await answer.json());
    if (bundle === digest) return;
    await systemClock.sleep(20);
  }
}

function residentMiBOf(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Math.round(Number(found?.[1] ?? NaN) / 1024);
}

function quantilesOf(latencies: readonly number[]) {
  const sorted = [...latencies].sort((first, second) => first - second);
  const quantile = (share: number): number =>
    Math.round(100 * at(sorted, Math.min(sorted.length - 1, Math.floor(share * sorted.length)))) /
    100;
  return {
    requests: sorted.length,
    p50: quantile(0.5),
    p99: quantile(0.99),
    p999: quantile(0.999),
  };
}

type SwapRecord = Awaited<ReturnType<typeof measured>> &
  typeof header & { readonly readyMs: number };

function pageOf(record: SwapRecord): string {
  const { before, during, residentMiB, readyMs, failed, wrong } = record;
  const rowOf = (name: string, { requests, p50, p99, p999 }: SwapRecord['before']) =>
    [name, requests, p50, p99, p999] as const;
  return [
    '# Swaps of a bundle under load',
    '',
    `${record.swapCount} swaps between two bundles of ${record.adgroupCount} adgroups, ${record.rate} requests a second of ` +
      `${record.candidateCount} candidates in JSON columns, latency from the scheduled arrival in milliseconds.`,
    '',
    ...markdownTable(
      ['', 'requests', 'p50', 'p99', 'p99.9'],
      [rowOf('before', before), rowOf('while swapping', during)],
    ),
    '',
    `p99 while swapping is ${(during.p99 / before.p99).toFixed(2)} times that before. ${failed} requests failed, and ` +
      `${wrong} answers were not those of the bundle that they name. Resident memory after a swap: ` +
      `${Math.min(...residentMiB)} to ${Math.max(...residentMiB)} MiB, ${residentMiB.at(-1)} after the last. ` +
      `The server was ready ${Math.round(readyMs)} ms after its start.`,
    '',
    `Commit ${record.commit}, ${record.date}; ${record.machine}; load before ${record.loadBefore}.`,
    '',
    '    npm run bench:swap',
    '',
  ].join('\n');
}
