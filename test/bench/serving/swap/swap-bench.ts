/**
 * Swaps of a bundle under load: first the rate at which the server is saturated, then half of it in an open
 * loop, in rounds of some seconds without a swap and some swaps, so that a slow minute of the machine is on both sides: between two
 * full bundles, then between two that share most of their files. Each answer is held against the bundle that it names. Writes `infra/results/serving-swap.{md,json}`.
 *
 *   npm run bench -- serving swap --adgroups 1000000 --swaps 100
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { scoringAddon } from '../../../../infra/bootstrap/native-addons.mjs';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { at } from '../../../../shared/base/arrays.js';
import { systemClock } from '../../../../shared/base/clock.js';
import { moveLabel } from '../../../../shared/bundle/bundle-labels.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { startCommand } from '../../../fixtures/commands/command.js';
import { benchHeader, grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import { saturation, wireRequest, Connection } from '../server/load.js';
import { keyOf, requestsIn, writeServedBundle } from '../server/server-setting.js';
import { writeSyntheticChange } from '../synthetic-change.js';
import { benchOptions } from '../../options/bench-options.js';
import { text, wholeNumber } from '../../options/option-values.js';
import { randomStream } from '../../../../shared/base/random.js';

interface Quantiles {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
}

/** Resident pages of files are the system's to take back; others are the process's own. */
interface ResidentMiB {
  readonly own: number;
  readonly files: number;
}

/** Swaps between two bundles, in milliseconds. */
interface SwapFigures {
  readonly before: Quantiles;
  readonly during: Quantiles;
  readonly swap: Quantiles;
  /** The 99th percentile while swapping, divided by that before, of each round. */
  readonly roundRatios: readonly number[];
  /** After each swap. */
  readonly memory: readonly ResidentMiB[];
  readonly wrongCount: number;
  readonly failedCount: number;
}

interface SwapRecord extends BenchHeader {
  readonly adgroupCount: number;
  readonly changedCount: number;
  readonly swapCount: number;
  readonly roundCount: number;
  /** Without a swap, in each round. */
  readonly seconds: number;
  readonly saturatedRate: number;
  readonly rate: number;
  readonly readyMs: number;
  readonly full: SwapFigures;
  readonly changed: SwapFigures;
}

function swapPage(record: SwapRecord): string {
  return [
    '# Swaps of a bundle under load',
    '',
    `${record.swapCount} swaps between two bundles of ${grouped(record.adgroupCount)} adgroups, then as many between two exports of changes of the first of them, each of which changes`,
    `${grouped(record.changedCount)} adgroups. Requests are those of [the server](serving-server.md) in JSON, ${record.rate} a second of ${Math.round(record.saturatedRate)} that saturate it,`,
    `in an open loop, with latencies from when a request was due, in milliseconds: ${record.roundCount} rounds of ${record.seconds} seconds without a swap ("before") and ${record.swapCount / record.roundCount} swaps each,`,
    'so that a slow minute of the machine is on both sides. The client runs on the same machine.',
    '',
    ...['## Full bundles', '', ...figureLines(record.full), ''],
    ...['## Exports of changes', '', ...figureLines(record.changed), ''],
    `The server was ready ${Math.round(record.readyMs)} ms after its start.`,
    '',
    `Commit ${record.commit}, ${record.date}; ${record.machine}; load before ${record.loadBefore}.`,
    '',
    '    npm run bench -- serving swap',
    '',
  ].join('\n');
}

function figureLines({
  before,
  during,
  swap,
  memory,
  roundRatios,
  ...counts
}: SwapFigures): string[] {
  const rowOf = (name: string, { count, p50, p90, p99, p999 }: Quantiles) =>
    [name, grouped(count), p50, p90, p99, p999] as const;
  return [
    ...markdownTable(
      ['', 'requests', 'p50', 'p90', 'p99', 'p99.9'],
      [rowOf('before', before), rowOf('while swapping', during)],
    ),
    '',
    `p99 while swapping is ${(during.p99 / before.p99).toFixed(2)} times that before (bar: 1.5), in the rounds ${ratiosOf(roundRatios)}.`,
    `${counts.failedCount} requests failed, and ${counts.wrongCount} answers were not those of the bundle that they name. From a label's move until its bundle is served: ${(swap.p50 / 1000).toFixed(1)} s`,
    `(median; at most ${(swap.p999 / 1000).toFixed(1)} s). Resident memory after a swap: ${spanOf(memory.map(({ own }) => own))} of its own,`,
    `and ${spanOf(memory.map(({ files }) => files))} of mapped files.`,
  ];
}

function ratiosOf(ratios: readonly number[]): string {
  const sorted = [...ratios]
    .sort((first, second) => first - second)
    .map((ratio) => ratio.toFixed(2));
  return `${sorted.at(0)} to ${sorted.at(-1)} times, with a median of ${sorted.at(Math.floor(sorted.length / 2))}`;
}

function spanOf(sizesMiB: readonly number[]): string {
  return `${Math.min(...sizesMiB)} to ${Math.max(...sizesMiB)} MiB (${sizesMiB.at(-1)} after the last)`;
}

const CONNECTIONS = 64;
const SUCCESS = 'HTTP/1.1 200';
const HEAD_END = '\r\n\r\n';
const BUNDLE = /"bundle":"([0-9a-f]{64})"/;

interface DueRequest {
  readonly dueMs: number;
  readonly latenciesMs: number[];
}

class CheckedLoad {
  readonly #url: URL;
  readonly #requests: readonly Buffer[];
  readonly #ratePerSecond: number;
  readonly #arrivals = randomStream(29, 'arrivals');
  #idle: Connection[] = [];
  #latenciesMs: number[] = [];
  /** The answers of each bundle, in the order of the requests. */
  readonly #expected = new Map<string, readonly Buffer[]>();
  #sent = 0;
  #wrong = 0;
  #failed = 0;

  constructor(url: URL, requests: readonly Buffer[], ratePerSecond: number) {
    this.#url = url;
    this.#requests = requests;
    this.#ratePerSecond = ratePerSecond;
  }

  get wrongCount(): number {
    return this.#wrong;
  }

  /** Requests that were refused. */
  get failedCount(): number {
    return this.#failed;
  }

  /** Remembers what the bundle that is served answers to each request. */
  async learn(): Promise<void> {
    const connection = await this.#opened();
    const answers: Buffer[] = [];
    for (const request of this.#requests) {
      const answer = await answerTo(connection, request);
      if (!isSuccess(answer)) throw new Error(`the server answered ${answer.toString()}`);
      answers.push(Buffer.from(contentOf(answer)));
    }
    this.#expected.set(bundleOf(at(answers, 0)), answers);
    connection.close();
  }

  /** Requests that are due from now on leave their milliseconds, from then until they were answered, in this list. */
  recordIn(latenciesMs: number[]): void {
    this.#latenciesMs = latenciesMs;
  }

  /** Asks while the work goes on. */
  async during(work: () => Promise<void>): Promise<void> {
    const connections = Array.from({ length: CONNECTIONS }, () => this.#opened());
    this.#idle = await Promise.all(connections);
    const due: DueRequest[] = [];
    const open = new Set<Promise<void>>();
    const over = new AbortController();
    const worked = work().finally(() => over.abort());
    const startMs = systemClock.monotonicMs();
    let nextMs = startMs + this.#gapMs();
    while (!over.signal.aborted || due.length > 0) {
      const nowMs = systemClock.monotonicMs();
      for (; !over.signal.aborted && nextMs <= nowMs; nextMs += this.#gapMs())
        due.push({ dueMs: nextMs, latenciesMs: this.#latenciesMs });
      while (this.#idle.length > 0) {
        const request = due.shift();
        if (request === undefined) break;
        const asking = this.#ask(request).finally(() => open.delete(asking));
        open.add(asking);
      }
      await systemClock.sleep(Math.max(1, Math.min(nextMs - systemClock.monotonicMs(), 5)));
    }
    await worked;
    await Promise.all(open);
    for (const connection of this.#idle) connection.close();
  }

  #opened(): Promise<Connection> {
    return Connection.open(this.#url, true);
  }

  async #ask({ dueMs, latenciesMs }: DueRequest): Promise<void> {
    const connection = this.#idle.shift();
    if (connection === undefined) throw new Error('no connection is idle');
    const place = this.#sent % this.#requests.length;
    this.#sent += 1;
    const answer = await answerTo(connection, at(this.#requests, place));
    latenciesMs.push(systemClock.monotonicMs() - dueMs);
    this.#idle.push(connection);
    if (!isSuccess(answer)) {
      this.#failed += 1;
      return;
    }
    const content = contentOf(answer);
    const wanted = this.#expected.get(bundleOf(content))?.[place];
    if (wanted?.equals(content) !== true) this.#wrong += 1;
  }

  /** The next gap: exponential, as of many callers. */
  #gapMs(): number {
    return (-1_000 * Math.log(1 - this.#arrivals.uniform())) / this.#ratePerSecond;
  }
}

function answerTo(connection: Connection, request: Buffer): Promise<Buffer> {
  return new Promise((resolve) => connection.send(request, resolve));
}

function isSuccess(answer: Buffer): boolean {
  return answer.toString('latin1', 0, SUCCESS.length) === SUCCESS;
}

function contentOf(answer: Buffer): Buffer {
  return answer.subarray(answer.indexOf(HEAD_END) + HEAD_END.length);
}

function bundleOf(content: Buffer): string {
  return BUNDLE.exec(content.toString('latin1', 0, 200))?.[1] ?? '';
}

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
  const changes = [
    await writeSyntheticChange(store, { ...terms, scale: 1.5 }),
    await writeSyntheticChange(store, { ...terms, scale: 1.75 }),
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
    changed: await measured(served, changes),
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
  const requests = requestsIn('objects', REQUEST_COUNT, { adgroupCount, digest }).map((request) =>
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
