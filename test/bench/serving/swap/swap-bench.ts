/**
 * Swaps of a bundle under load: first the rate at which the server is saturated, then half of it in an open
 * loop, before and while the label moves again and again. Each answer is held against the bundle that it
 * names. Writes `infra/results/serving-swap.{md,json}`.
 *
 *   npm run bench:swap -- --adgroups 1000000 --swaps 100
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { scoringAddon } from '../../../../infra/bootstrap/serving/scoring-addon.mjs';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { at } from '../../../../shared/base/arrays.js';
import { systemClock } from '../../../../shared/base/clock.js';
import { moveLabel } from '../../../../shared/bundle/bundle-labels.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { startCommand } from '../../../fixtures/commands/command.js';
import { benchHeader, grouped, markdownTable } from '../../bench-header.js';
import { saturation, wireRequest } from '../server/load.js';
import { requestsIn, writeServedBundle } from '../server/server-setting.js';
import { CheckedLoad } from './checked-load.js';

const { values: options } = parseArgs({
  options: {
    adgroups: { type: 'string', default: '1000000' },
    swaps: { type: 'string', default: '100' },
    /** Seconds of load before the first swap. */
    seconds: { type: 'string', default: '30' },
    /** Requests a second; half of what saturates the server, if absent. */
    rate: { type: 'string' },
    output: { type: 'string', default: new URL('infra/results/', packageRoot).pathname },
  },
});
const count = z.coerce.number().int().positive().max(4_000_000);
const adgroupCount = count.min(1000).parse(options.adgroups);
const swapCount = count.max(10_000).parse(options.swaps);
const seconds = count.max(3_600).parse(options.seconds);
const givenRate = count.optional().parse(options.rate);

const REQUEST_COUNT = 50;
const SATURATION_SECONDS = 5;
const SATURATION_CONNECTIONS = 16;
/** The pause between a swap and the next one. */
const SETTLE_MS = 1_000;
const ServedSchema = z.object({ url: z.string() });

const header = benchHeader(packageRoot.pathname);
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = mkdtempSync(join(tmpdir(), 'qianmo-swap-'));
try {
  const store = new FileObjectStore({ folder });
  const digests = [
    await writeServedBundle(store, adgroupCount),
    await writeServedBundle(store, adgroupCount, { scale: 1.25 }),
  ];
  await moveLabel(store, 'latest', at(digests, 0));
  const words = ['serve', '--bundle', folder, '--port', '0', '--poll-seconds', '0.1'];
  const startMs = systemClock.monotonicMs();
  const command = startCommand([...words, '--format', 'json'], folder);
  const [line] = await command.printed(/^\{.*\}$/m);
  const readyMs = systemClock.monotonicMs() - startMs;
  const { url } = ServedSchema.parse(JSON.parse(line));
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
  rmSync(folder, { recursive: true, force: true });
}

interface Served {
  readonly url: string;
  readonly pid: number;
}

async function measured(store: FileObjectStore, digests: readonly string[], { url, pid }: Served) {
  const terms = { adgroupCount, digest: at(digests, 0) };
  const { host } = new URL(url);
  const requests = requestsIn('columns', REQUEST_COUNT, terms).map((request) =>
    wireRequest(request, host),
  );
  const saturatedRate = await saturation({
    ...{ url, requests, seconds: SATURATION_SECONDS, connectionCount: SATURATION_CONNECTIONS },
  });
  const rate = givenRate ?? Math.round(saturatedRate / 2);
  const load = new CheckedLoad(new URL(url), requests, rate);
  for (const digest of [...digests, at(digests, 0)]) {
    await swapped(store, url, digest);
    await load.learn();
  }
  const before = await load.during(() => systemClock.sleep(seconds * 1000));
  const residentMiB: number[] = [];
  const swapMs: number[] = [];
  const during = await load.during(async () => {
    for (let swap = 1; swap <= swapCount; swap += 1) {
      const startMs = systemClock.monotonicMs();
      await swapped(store, url, at(digests, swap % 2));
      swapMs.push(systemClock.monotonicMs() - startMs);
      await systemClock.sleep(SETTLE_MS);
      residentMiB.push(residentMiBOf(pid));
    }
  });
  return {
    ...{
      adgroupCount,
      swapCount,
      saturatedRate,
      rate,
      wrongCount: load.wrongCount,
      failedCount: load.failedCount,
    },
    ...{ before: quantilesOf(before), during: quantilesOf(during), residentMiB },
    swap: quantilesOf(swapMs),
  };
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

function quantilesOf(values: readonly number[]) {
  const sorted = [...values].sort((first, second) => first - second);
  const quantile = (share: number): number =>
    Math.round(100 * at(sorted, Math.min(sorted.length - 1, Math.floor(share * sorted.length)))) /
    100;
  return {
    count: sorted.length,
    p50: quantile(0.5),
    p90: quantile(0.9),
    p99: quantile(0.99),
    p999: quantile(0.999),
  };
}

type SwapRecord = Awaited<ReturnType<typeof measured>> &
  typeof header & { readonly readyMs: number };

function pageOf(record: SwapRecord): string {
  const { before, during, swap, residentMiB } = record;
  const rowOf = (name: string, { count, p50, p90, p99, p999 }: SwapRecord['before']) =>
    [name, grouped(count), p50, p90, p99, p999] as const;
  return [
    '# Swaps of a bundle under load',
    '',
    `${record.swapCount} swaps between two bundles of ${grouped(record.adgroupCount)} adgroups. Requests are those of`,
    `[the server](serving-server.md) in JSON columns, ${record.rate} a second of ${Math.round(record.saturatedRate)} that saturate it,`,
    'in an open loop, with latencies from when a request was due, in milliseconds. The client runs on the same machine.',
    '',
    ...markdownTable(
      ['', 'requests', 'p50', 'p90', 'p99', 'p99.9'],
      [rowOf('before', before), rowOf('while swapping', during)],
    ),
    '',
    `p99 while swapping is ${(during.p99 / before.p99).toFixed(2)} times that before (bar: 1.5). ${record.failedCount} requests failed, and`,
    `${record.wrongCount} answers were not those of the bundle that they name. From a label's move until its bundle is served: ${(swap.p50 / 1000).toFixed(1)} s`,
    `(median; at most ${(swap.p999 / 1000).toFixed(1)} s). Resident memory after a swap: ${Math.min(...residentMiB)} to ${Math.max(...residentMiB)} MiB,`,
    `${residentMiB.at(-1)} after the last. The server was ready ${Math.round(record.readyMs)} ms after its start.`,
    '',
    `Commit ${record.commit}, ${record.date}; ${record.machine}; load before ${record.loadBefore}.`,
    '',
    '    npm run bench:swap',
    '',
  ].join('\n');
}
