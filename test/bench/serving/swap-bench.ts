/**
 * Swaps of a bundle under load: first the rate at which the server is saturated, then half of it in an open
 * loop, in rounds of some seconds without a swap and some swaps, so that a slow minute of the machine is on both sides: between two
 * full bundles, then between two that share most of their files. Each answer is held against the bundle that it names. Writes `infra/results/serving-swap.{md,json}`.
 *
 *   npm run bench -- serving swap --adgroups 1000000 --swaps 100
 */

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { indexArrays, writeGrown } from '../../../coordinator/export/export-bundle.js';
import { PackedBlocks } from '../../../coordinator/export/packed-blocks.js';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { at } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';
import { writeArray } from '../../../shared/bundle/array-files.js';
import { moveLabel, publishBundle } from '../../../shared/bundle/bundle-store.js';
import { buildKeyIndex } from '../../../shared/bundle/key-index.js';
import { type LoadedBundle, readPublishedBundle } from '../../../shared/bundle/read-bundle.js';
import { ObjectBlobStore } from '../../../shared/storage/blob-store.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { serveCommand } from '../../fixtures/serving/served-command.js';
import {
  benchHeader,
  type BenchHeader,
  circumstances,
  grouped,
  markdownTable,
  writeResult,
} from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { outputOption, roundsOption, wholeNumber } from '../option-values.js';
import { scratchFolder } from '../scratch-folder.js';
import {
  Connection,
  contentOf,
  isSuccess,
  openLoop,
  type Quantiles,
  quantilesOf,
  requireSuccess,
  saturation,
  wireRequest,
} from './load.js';
import { keyOf, requestsIn, writeServedBundle } from './server-setting.js';

interface ChangeTerms {
  /** The digest of a bundle. */
  readonly base: string;
  readonly changedCount: number;
  /** The factor on the values of a changed block. */
  readonly scale: number;
  readonly keyOf: (adgroup: number) => string;
}

/** Blocks between two that change. */
const STEP = 7;

/** Publishes the bundle and returns its digest. The rows of the self-check are those of the base, whose blocks stay as they are. */
async function writeSyntheticChange(
  store: ObjectStore,
  { base, changedCount, scale, keyOf }: ChangeTerms,
): Promise<string> {
  const loaded = await readPublishedBundle(store, base);
  const { manifest } = loaded;
  const changed = unchecked(changedCount, new Set(loaded.selfCheck.blocks));
  const blobs = new ObjectBlobStore(store);
  const put = (bytes: Uint8Array) => blobs.put(bytes);
  const packing = new PackedBlocks({
    ...{ layout: loaded.model.blocks.layout, put },
    ...{ blockCount: changedCount, blocksPerFile: manifest.blocks.blocksPerFile },
    ...{ encodedFeatures: [], before: manifest.arrays },
  });
  const scaled = withScaledBlocks(loaded, scale);
  for (const block of changed) await packing.copy(scaled, block);
  // Block b is that of adgroup b - 1.
  const index = buildKeyIndex(
    changed.map((block) => keyOf(block - 1)),
    loaded.index,
  );
  const rewritten = await packing.finish();
  for (const array of indexArrays(index)) {
    const earlier = manifest.arrays.find(({ name }) => name === array.name);
    const isGrown = array.name.startsWith('keys.');
    rewritten.push(await (isGrown ? writeGrown(earlier, array, put) : writeArray(array, put)));
  }
  const names = new Set(rewritten.map(({ name }) => name));
  const kept = manifest.arrays.filter(({ name }) => !names.has(name));
  const { count } = manifest.blocks;
  const change = await publishBundle(store, {
    ...manifest,
    blocks: { ...manifest.blocks, count: count + changedCount, deadCount: changedCount },
    index: { seed: 0 },
    arrays: [...kept, ...rewritten].sort((a, b) => (a.name < b.name ? -1 : 1)),
  });
  return change.digest;
}

function unchecked(count: number, checked: ReadonlySet<number>): number[] {
  const blocks: number[] = [];
  for (let block = 1; blocks.length < count; block += STEP)
    if (!checked.has(block)) blocks.push(block);
  return blocks;
}

/** The bundle with scaled values in its first shard. */
function withScaledBlocks(loaded: LoadedBundle, scale: number): LoadedBundle {
  const { blocks } = loaded.model;
  const [first = new Uint8Array(), ...others] = blocks.shards;
  const copied = Uint8Array.from(first);
  const values = new Float32Array(copied.buffer);
  for (let index = 0; index < values.length; index += 1) values[index] = scale * at(values, index);
  const shards = [copied, ...others];
  return { ...loaded, model: { ...loaded.model, blocks: { ...blocks, shards } } };
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
  /** After the last swap. */
  readonly memory: ResidentMiB;
  readonly wrongCount: number;
  readonly failedCount: number;
}

interface SwapRecord extends BenchHeader {
  readonly adgroupCount: number;
  readonly changedCount: number;
  readonly swapCount: number;
  readonly saturatedRate: number;
  readonly rate: number;
  readonly readyMs: number;
  readonly full: SwapFigures;
  readonly changed: SwapFigures;
}

function swapPage(record: SwapRecord): string {
  const { swapCount, adgroupCount, changedCount, rate, saturatedRate, full, changed } = record;
  const kinds = [['full bundles', full] as const, ['changes', changed] as const];
  return [
    '# Swaps of a bundle under load',
    '',
    `${circumstances(record)} ${swapCount} swaps between two bundles of ${grouped(adgroupCount)} adgroups, then as many between two exports`,
    `that change ${grouped(changedCount)} of them. Requests are those of [the server](serving-server.md) in JSON, ${rate} a second of ${Math.round(saturatedRate)} that saturate it, in an open`,
    `loop, with latencies from when a request was due, in milliseconds. The server was ready ${Math.round(record.readyMs)} ms after its start.`,
    '',
    ...markdownTable(
      ['', 'requests', 'p50', 'p90', 'p99', 'p99.9'],
      kinds.flatMap(([name, { before, during }]) =>
        (['before', 'while swapping'] as const).map((when) => {
          const { count, p50, p90, p99, p999 } = when === 'before' ? before : during;
          return [`${name}, ${when}`, grouped(count), p50, p90, p99, p999];
        }),
      ),
    ),
    '',
    ...markdownTable(
      ['', 'failed', 'wrong', 'until served, s', 'own memory, MiB', 'mapped files, MiB'],
      kinds.map(([name, { failedCount, wrongCount, swap, memory }]) => [
        ...[name, failedCount, wrongCount, (swap.p50 / 1000).toFixed(1)],
        ...[memory.own, memory.files],
      ]),
    ),
    '',
  ].join('\n');
}

const options = benchOptions(import.meta.url, {
  adgroups: {
    value: wholeNumber(1000, 4_000_000),
    default: '1000000',
    about: 'adgroups of the bundles',
  },
  swaps: { value: wholeNumber(1, 10_000), default: '100', about: 'number of swaps' },
  rounds: roundsOption('10'),
  seconds: {
    value: wholeNumber(1, 3_600),
    default: '6',
    about: 'seconds of load before the swaps of each round',
  },
  output: outputOption,
});
const { adgroups: adgroupCount, swaps: swapCount, seconds } = options;
const roundCount = Math.min(options.rounds, swapCount);

const CONNECTIONS = 64;
const REQUEST_COUNT = 50;
const SATURATION_SECONDS = 5;
const SATURATION_CONNECTIONS = 16;
/** The pause between a swap and the next one. */
const SETTLE_MS = 1_000;
/** One adgroup in a hundred, as a refresh of a day. */
const CHANGED_SHARE = 0.01;
const BUNDLE = /"bundle":"([0-9a-f]{64})"/;

const header = benchHeader();
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = scratchFolder('swap');
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
await moveLabel(store, 'latest', base);
const startMs = systemClock.monotonicMs();
const { command, url, stop } = await serveCommand(folder, folder, ['--poll-seconds', '0.1']);
const readyMs = systemClock.monotonicMs() - startMs;
const requests = requestsIn('objects', REQUEST_COUNT, { adgroupCount, digest: base }).map(
  (request) => wireRequest(request, new URL(url).host),
);
const saturating = { url, requests, connectionCount: SATURATION_CONNECTIONS };
const saturatedRate = await saturation(saturating, SATURATION_SECONDS);
const rate = Math.round(saturatedRate / 2);
const served = { url, pid: command.pid, requests, rate };
const record: SwapRecord = {
  ...{ ...header, adgroupCount, changedCount, swapCount, saturatedRate, rate, readyMs },
  full: await measured(served, digests),
  changed: await measured(served, changes),
};
await stop();
writeResult(options.output, 'serving-swap', record, swapPage(record));

interface Served {
  readonly url: string;
  readonly pid: number;
  readonly requests: readonly Buffer[];
  readonly rate: number;
}

async function measured(
  { url, pid, requests, rate }: Served,
  digests: readonly string[],
): Promise<SwapFigures> {
  /** The answers of each bundle, in the order of the requests. */
  const expected = new Map<string, readonly Buffer[]>();
  for (const digest of [...digests, at(digests, 0)]) {
    await swap(url, digest);
    expected.set(digest, await answersOf(url, requests));
  }
  const [before, during, swapMs] = [new Array<number>(), new Array<number>(), new Array<number>()];
  let latenciesMs = before;
  let [wrongCount, failedCount] = [0, 0];
  const due = (place: number) => {
    const list = latenciesMs;
    return (answer: Buffer, latencyMs: number): void => {
      list.push(latencyMs);
      const content = contentOf(answer);
      const [, bundle = ''] = BUNDLE.exec(content.toString('latin1', 0, 200)) ?? [];
      if (!isSuccess(answer)) failedCount += 1;
      else if (expected.get(bundle)?.[place]?.equals(content) !== true) wrongCount += 1;
    };
  };
  const load = { url, requests, connectionCount: CONNECTIONS };
  await openLoop(load, { ratePerSecond: rate, sleepMs: 1, due }, async () => {
    for (let place = 0; place < swapCount; place += 1) {
      if (roundOf(place) !== roundOf(place - 1)) {
        latenciesMs = before;
        await systemClock.sleep(seconds * 1000);
        latenciesMs = during;
      }
      const startMs = systemClock.monotonicMs();
      await swap(url, at(digests, (place + 1) % 2));
      swapMs.push(systemClock.monotonicMs() - startMs);
      await systemClock.sleep(SETTLE_MS);
    }
  });
  return {
    ...{ before: quantilesOf(before), during: quantilesOf(during), swap: quantilesOf(swapMs) },
    ...{ memory: residentMiBOf(pid), wrongCount, failedCount },
  };
}

function roundOf(swapped: number): number {
  return Math.floor((swapped * roundCount) / swapCount);
}

/** What the bundle that is served answers to each request. */
async function answersOf(url: string, requests: readonly Buffer[]): Promise<Buffer[]> {
  const connection = await Connection.open(url);
  const answers: Buffer[] = [];
  for (const request of requests) {
    const answer = await new Promise<Buffer>((resolve) => connection.send(request, resolve));
    requireSuccess(answer);
    answers.push(Buffer.from(contentOf(answer)));
  }
  connection.close();
  return answers;
}

/** Moves the label and waits until the bundle is served. */
async function swap(url: string, digest: string): Promise<void> {
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
