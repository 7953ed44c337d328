/**
 * `POST /v1/adapt` at a real server, one request after the other over a kept connection: the time from sending 50 labelled
 * rows to the answer, which comes when the rows are on disk and the block is served. Writes
 * `infra/results/serving-adapt.{md,json}`.
 *
 *   npm run bench -- serving adapt --requests 1000 --adgroups 100000
 */

import { open } from 'node:fs/promises';
import { Agent, request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { at } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';
import { randomStream } from '../../../shared/base/random.js';
import { moveLabel } from '../../../shared/bundle/bundle-store.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import {
  benchHeader,
  circumstances,
  grouped,
  markdownTable,
  writeResult,
} from '../bench-header.js';
import { familyOf, TICKS_PER_SECOND, usageOf } from '../resident-memory.js';
import { CANDIDATE_ROWS, CONTEXT_ROWS } from './kernel-setting.js';
import { quantilesOf, type Quantiles } from './load.js';
import { syntheticKey, writeSyntheticBundle } from './synthetic-bundle.js';
import { benchOptions } from '../bench-options.js';
import { listOf, outputOption, wholeNumber } from '../option-values.js';
import { serveCommand } from '../../fixtures/serving/served-command.js';
import { scratchFolder } from '../scratch-folder.js';

const options = benchOptions(import.meta.url, {
  adgroups: {
    value: wholeNumber(1, 4_000_000),
    default: '100000',
    about: 'adgroups of the bundle',
  },
  requests: { value: wholeNumber(1, 60_000), default: '1000', about: 'number of requests' },
  rows: { value: wholeNumber(1, 5_000), default: '50', about: 'rows of each request' },
  processes: {
    value: listOf(wholeNumber(1, 64)),
    default: '1,2',
    about: 'numbers of processes, with commas between them',
  },
  output: outputOption,
});
const { adgroups: adgroupCount, requests: requestCount, rows: rowCount } = options;
const { processes: processCounts } = options;

const WARMING_REQUESTS = 200;
const BODY_COUNT = 100;
/** A busy machine measures slowly and refuses nothing. */
const DEADLINE_MS = 60_000;

interface Measured extends Quantiles {
  readonly processCount: number;
  /** Processor time of the server a request, all its processes together. */
  readonly processorMs: number;
  /** Resident, of all processes of the server together; files that several have mapped count for each. */
  readonly memoryMib: number;
  /** A write of as many bytes and a sync, the median of those before and after. */
  readonly syncMs: number;
}

const header = benchHeader();
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = scratchFolder('adapt');
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const store = new FileObjectStore({ folder: join(folder, 'bundles') });
await moveLabel(store, 'latest', await writeSyntheticBundle(store, { adgroupCount, scale: 1 }));
const measured: Measured[] = [];
for (const processCount of processCounts) measured.push(await measuredWith(processCount));
agent.destroy();
const record = { ...header, adgroupCount, requestCount, rowCount, measured };
writeResult(options.output, 'serving-adapt', record, pageOf(measured));

async function measuredWith(processCount: number): Promise<Measured> {
  const { command, url, stop } = await serveCommand(folder, 'bundles', [
    ...['--state', `state-${processCount}`, '--processes', String(processCount)],
    ...['--deadline-ms', String(DEADLINE_MS)],
  ]);
  const bodies = Array.from({ length: BODY_COUNT }, (_, seed) => bodyOf(seed));
  const before = await syncMsOf(at(bodies, 0).length);
  const latencies: number[] = [];
  let startedMs = 0;
  for (let turn = 0; turn < WARMING_REQUESTS + requestCount; turn += 1) {
    if (turn === WARMING_REQUESTS) startedMs = processorMsOf(command.pid);
    const latencyMs = await adaptedMs(url, at(bodies, turn % BODY_COUNT));
    if (turn >= WARMING_REQUESTS) latencies.push(latencyMs);
  }
  const processorMs = (processorMsOf(command.pid) - startedMs) / requestCount;
  const memoryKib = familyOf(command.pid).reduce((sum, pid) => sum + usageOf(pid).residentKiB, 0);
  const after = await syncMsOf(at(bodies, 0).length);
  await stop();
  const syncMs = (before + after) / 2;
  const memoryMib = memoryKib / 1_024;
  return { processCount, processorMs, memoryMib, syncMs, ...quantilesOf(latencies) };
}

/** Of a process and its children since they began. */
function processorMsOf(pid: number): number {
  const ticks = familyOf(pid).reduce((sum, each) => sum + usageOf(each).ticks, 0);
  return (1_000 * ticks) / TICKS_PER_SECOND;
}

/** Half of the adgroups are known to the bundle. */
function bodyOf(seed: number): string {
  const random = randomStream(seed, 'labelled rows');
  const rowsOf = (prefix: string, counts: readonly number[]) =>
    counts.map((rows, place) => [`${prefix}${place}`, `value-${random.below(rows)}`] as const);
  return JSON.stringify({
    adgroup: syntheticKey(seed % 2 === 0 ? seed : adgroupCount + seed),
    rows: Array.from({ length: rowCount }, () => ({
      features: Object.fromEntries([
        ...rowsOf('context', CONTEXT_ROWS),
        ...rowsOf('candidate', CANDIDATE_ROWS),
      ]),
      label: random.below(20) === 0 ? 1 : 0,
    })),
  });
}

function adaptedMs(url: string, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sentMs = systemClock.monotonicMs();
    const headers = {
      ...{ 'content-type': 'application/json' },
      'content-length': Buffer.byteLength(body),
    };
    const sent = httpRequest(`${url}/v1/adapt`, { method: 'POST', agent, headers }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        const latencyMs = systemClock.monotonicMs() - sentMs;
        if (response.statusCode === 200) resolve(latencyMs);
        else reject(new Error(Buffer.concat(pieces).toString('utf8')));
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** The median time of a write of so many bytes that is synced, which no durable answer can be faster than. */
async function syncMsOf(byteCount: number): Promise<number> {
  const file = await open(join(folder, 'synced'), 'a');
  const bytes = Buffer.alloc(byteCount, 'x');
  const times: number[] = [];
  for (let turn = 0; turn < 100; turn += 1) {
    const startMs = systemClock.monotonicMs();
    await file.appendFile(bytes);
    await file.datasync();
    times.push(systemClock.monotonicMs() - startMs);
  }
  await file.close();
  return quantilesOf(times).p50;
}

function pageOf(measured: readonly Measured[]): string {
  return [
    ...['# Adapting an adgroup while serving', ''],
    `${circumstances(header)} ${grouped(requestCount)} requests, one after the other.`,
    `A request is ${rowCount} labelled rows of 10 texts in JSON; the model is that of [the kernel](serving-kernel.md) with a personal head, two`,
    `inner steps, ${grouped(adgroupCount)} adgroups. The answer comes when the rows are on disk and every process serves the block.`,
    '',
    ...markdownTable(
      [
        ...['processes', 'p50, ms', 'p90, ms', 'p99, ms', 'processor time, ms'],
        ...['memory, MiB', 'a synced write, ms'],
      ],
      measured.map(({ processCount, processorMs, memoryMib, syncMs, p50, p90, p99 }) => [
        ...[processCount, ...[p50, p90, p99, processorMs].map((ms) => ms.toFixed(2))],
        ...[memoryMib.toFixed(0), syncMs.toFixed(2)],
      ]),
    ),
    '',
  ].join('\n');
}
