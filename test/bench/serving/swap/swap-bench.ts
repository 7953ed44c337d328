/**
 * Swaps of a bundle under load: first the rate at which the server is saturated, then half of it in an open
 * loop, in rounds of some seconds without a swap and some swaps, so that a slow minute of the machine is on both sides: between two
 * full bundles, then between two deltas. Each answer is held against the bundle that it names. Writes `infra/results/serving-swap.{md,json}`.
 *
 *   npm run bench -- serving swap --adgroups 1000000 --swaps 100
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { scoringAddon } from '../../../../infra/bootstrap/serving/scoring-addon.mjs';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { at } from '../../../../shared/base/arrays.js';
import { systemClock } from '../../../../shared/base/clock.js';
import { moveLabel } from '../../../../shared/bundle/bundle-labels.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { startCommand } from '../../../fixtures/commands/command.js';
import { benchHeader } from '../../bench-header.js';
import { saturation, wireRequest } from '../server/load.js';
import { keyOf, requestsIn, writeServedBundle } from '../server/server-setting.js';
import { writeSyntheticDelta } from '../synthetic-delta.js';
import { CheckedLoad } from './checked-load.js';
import {
  swapPage,
  type Quantiles,
  type ResidentMiB,
  type SwapFigures,
  type SwapRecord,
} from './swap-page.js';
import { benchOptions } from '../../options/bench-options.js';
import { text, wholeNumber } from '../../options/option-values.js';

const options = benchOptions(import.meta.url, {
  adgroups: {
    value: wholeNumber(1000, 4_000_000),
    default: '1000000',
    about: 'adgroups of the bundles',
  },
  swaps: { value: wholeNumber(1, 10_000), default: '100', about: 'number of swaps' },
  rounds: {
    value: wholeNumber(1, 10_000),
    default: '10',
    about: 'rounds that the swaps are spread over, at most one for each swap',
  },
  seconds: {
    value: wholeNumber(1, 3_600),
    default: '6',
    about: 'seconds of load before the swaps of each round',
  },
  rate: {
    value: wholeNumber(1, 4_000_000),
    about: 'requests a second; half of what saturates the server, if absent',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { adgroups: adgroupCount, swaps: swapCount, seconds, rate: givenRate } = options;
const roundCount = Math.min(options.rounds, swapCount);

const REQUEST_COUNT = 50;
const SATURATION_SECONDS = 5;
const SATURATION_CONNECTIONS = 16;
/** The pause between a swap and the next one. */
const SETTLE_MS = 1_000;
/** One adgroup in a hundred, as a refresh of a day. */
const CHANGED_SHARE = 0.01;
const ServedSchema = z.object({ url: z.string() });

const header = benchHeader(packageRoot.pathname);
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = mkdtempSync(join(tmpdir(), 'qianmo-swap-'));
try {
  const store = new FileObjectStore({ folder });
  const digests = [
    await writeServedBundle(store, adgroupCount),
    await writeServedBundle(store, adgroupCount, 1.25),
  ];
  const base = at(digests, 0);
  const changedCount = Math.round(CHANGED_SHARE * adgroupCount);
  const terms = { base, changedCount, keyOf };
  const deltas = [
    await writeSyntheticDelta(store, { ...terms, scale: 1.5 }),
    await writeSyntheticDelta(store, { ...terms, scale: 1.75 }),
  ];
  await moveLabel(store, 'latest', at(digests, 0));
  const words = ['serve', '--bundle', folder, '--port', '0', '--poll-seconds', '0.1'];
  const startMs = systemClock.monotonicMs();
  const command = startCommand([...words, '--format', 'json'], folder);
  const [line] = await command.printed(/^\{.*\}$/m);
  const readyMs = systemClock.monotonicMs() - startMs;
  const { url } = ServedSchema.parse(JSON.parse(line));
  const served = await loaded(store, base, { url, pid: command.pid });
  const { saturatedRate, rate } = served;
  const record: SwapRecord = {
    ...{ ...header, adgroupCount, changedCount, swapCount, roundCount, seconds },
    ...{ saturatedRate, rate, readyMs },
    full: await measured(served, digests),
    delta: await measured(served, deltas),
  };
  command.signal('SIGTERM');
  await command.ended;
  mkdirSync(options.output, { recursive: true });
  writeFileSync(join(options.output, 'serving-swap.json'), `${JSON.stringify(record)}\n`);
  writeFileSync(join(options.output, 'serving-swap.md'), swapPage(record));
  console.log(swapPage(record));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

interface Served {
  readonly url: string;
  readonly pid: number;
}

interface LoadedServer extends Served {
  readonly store: FileObjectStore;
  readonly requests: readonly Buffer[];
  readonly saturatedRate: number;
  readonly rate: number;
}

async function loaded(
  store: FileObjectStore,
  digest: string,
  { url, pid }: Served,
): Promise<LoadedServer> {
  const { host } = new URL(url);
  const requests = requestsIn('columns', REQUEST_COUNT, { adgroupCount, digest }).map((request) =>
    wireRequest(request, host),
  );
  const saturatedRate = await saturation({
    ...{ url, requests, seconds: SATURATION_SECONDS, connectionCount: SATURATION_CONNECTIONS },
  });
  const rate = givenRate ?? Math.round(saturatedRate / 2);
  return { url, pid, store, requests, saturatedRate, rate };
}

async function measured(
  { url, pid, store, requests, rate }: LoadedServer,
  digests: readonly string[],
): Promise<SwapFigures> {
  const load = new CheckedLoad(new URL(url), requests, rate);
  for (const digest of [...digests, at(digests, 0)]) {
    await swapped(store, url, digest);
    await load.learn();
  }
  const before: number[][] = [];
  const during: number[][] = [];
  const memory: ResidentMiB[] = [];
  const swapMs: number[] = [];
  await load.during(async () => {
    for (let swap = 0; swap < swapCount; swap += 1) {
      if (roundOf(swap) !== roundOf(swap - 1)) {
        load.recordIn(newestOf(before));
        await systemClock.sleep(seconds * 1000);
        load.recordIn(newestOf(during));
      }
      const startMs = systemClock.monotonicMs();
      await swapped(store, url, at(digests, (swap + 1) % 2));
      swapMs.push(systemClock.monotonicMs() - startMs);
      await systemClock.sleep(SETTLE_MS);
      memory.push(residentMiBOf(pid));
    }
  });
  return {
    ...{ before: quantilesOf(before.flat()), during: quantilesOf(during.flat()), memory },
    roundRatios: before.map(
      (round, place) => quantilesOf(at(during, place)).p99 / quantilesOf(round).p99,
    ),
    ...{ wrongCount: load.wrongCount, failedCount: load.failedCount, swap: quantilesOf(swapMs) },
  };
}

/** Begins the list of another round. */
function newestOf(rounds: number[][]): number[] {
  const latenciesMs: number[] = [];
  rounds.push(latenciesMs);
  return latenciesMs;
}

function roundOf(swap: number): number {
  return Math.floor((swap * roundCount) / swapCount);
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

function residentMiBOf(pid: number): ResidentMiB {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string): number => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status);
    return Math.round(Number(found?.[1] ?? NaN) / 1024);
  };
  return { own: of('RssAnon'), files: of('RssFile') };
}

function quantilesOf(values: readonly number[]): Quantiles {
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
