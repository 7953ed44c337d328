/**
 * The ranking server in one process against its bare kernel: saturation, then an open loop at half of it, in
 * interleaved rounds; and how long servers of the bundle take to be ready, and their memory. Writes
 * `infra/results/serving-server.json` and `.md`.
 *
 *   npm run bench -- serving server --rounds 3 --adgroups 1000000 --seconds 10
 */

import { readFileSync, existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { at, median } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';
import { moveLabel } from '../../../shared/bundle/bundle-store.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import {
  benchHeader,
  circumstances,
  grouped,
  markdownTable,
  writeResult,
  type BenchHeader,
} from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { amount, outputOption, roundsOption, wholeNumber } from '../option-values.js';
import { familyOf, TICKS_PER_SECOND, usageOf } from '../resident-memory.js';
import type { SideTimes } from './kernel-setting.js';
import { openLoop, quantilesOf, requireSuccess, saturation, wireRequest } from './load.js';
import { FORMS, requestsIn, writeServedBundle, type Form } from './server-setting.js';
import { serveCommand } from '../../fixtures/serving/served-command.js';
import { scratchFolder } from '../scratch-folder.js';

const options = benchOptions(import.meta.url, {
  rounds: roundsOption('3'),
  adgroups: {
    value: wholeNumber(1000, 4_000_000),
    default: '1000000',
    about: 'adgroups of the bundle',
  },
  seconds: { value: amount(600), default: '10', about: 'seconds of each load' },
  output: outputOption,
});
const { rounds, seconds, adgroups: adgroupCount } = options;

const REQUESTS = 200;
const CONNECTIONS = 16;
/** Of an open loop; more requests than that are late anyway. */
const OPEN_CONNECTIONS = 64;
const STARTS = 3;
const PROCESS_COUNTS = [1, 2, 3];
const TASKSET = '/usr/bin/taskset';

interface FormRound {
  /** Answers a second at saturation. */
  readonly perSecond: number;
  /** The time of the server's process for one request, in microseconds. */
  readonly cpuUs: number;
  /** Requests a second in the open loop. */
  readonly openPerSecond: number;
  /** Latencies in the open loop, from when a request was due, in milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  /** With its head. */
  readonly requestByteCount: number;
}

/** A server as `qianmo serve` starts it. */
interface StartedServer {
  readonly processes: number;
  readonly readyMs: number;
  /** Of all its processes; a page that several have counts once. */
  readonly memoryMiB: number;
}

interface ServerRecord extends BenchHeader {
  readonly adgroupCount: number;
  readonly kernel: readonly SideTimes[];
  readonly starts: readonly StartedServer[];
  readonly measured: Readonly<Record<Form, readonly FormRound[]>>;
}

const TITLES: Readonly<Record<Form, string>> = {
  binary: 'binary: hashes of keys, ids of values',
  'binary texts': 'binary: hashes of keys, texts of values',
  objects: 'JSON in objects',
};

function serverPage(record: ServerRecord): string {
  const middle = (form: Form, measure: keyof FormRound): number =>
    median(record.measured[form].map((round) => round[measure]));
  const kernelUs = median(record.kernel.map(({ medianUs }) => medianUs));
  const started = PROCESS_COUNTS.map((count) => {
    const own = record.starts.filter(({ processes }) => processes === count);
    const readyMs = median(own.map((start) => start.readyMs));
    const memoryMiB = median(own.map((start) => start.memoryMiB));
    return `${count}: ${grouped(Math.round(readyMs))} ms, ${grouped(Math.round(memoryMiB))} MiB`;
  });
  return [
    ...['# The ranking server', ''],
    `${circumstances(record)} Medians of ${rounds} rounds, ${grouped(record.adgroupCount)} adgroups, the setting of [the kernel](serving-kernel.md).`,
    `One server process and a client on a core each: ${seconds} s of saturation by ${CONNECTIONS} connections, then ${seconds} s in an open loop at half of that rate,`,
    `with latencies from when a request was due. The bare kernel takes ${grouped(Math.round(kernelUs))} us a request. Time until \`qianmo serve\` is ready, and memory,`,
    `by number of processes: ${started.join('; ')}.`,
    '',
    ...markdownTable(
      [
        ...['body', 'bytes', 'requests a second', 'processor time, us', 'open loop, a second'],
        ...['p50, ms', 'p99, ms', 'p99.9, ms'],
      ],
      FORMS.map((form) => [
        ...[TITLES[form], grouped(middle(form, 'requestByteCount'))],
        ...(['perSecond', 'cpuUs', 'openPerSecond'] as const).map((measure) =>
          grouped(Math.round(middle(form, measure))),
        ),
        ...(['p50', 'p99', 'p999'] as const).map((measure) => middle(form, measure).toFixed(2)),
      ]),
    ),
    '',
  ].join('\n');
}

/** Keeps this process, which is the client, on the second core. False where that cannot be done. */
function keepClientApart(): boolean {
  if (availableParallelism() < 2 || !existsSync(TASKSET)) return false;
  execFileSync(TASKSET, ['-acp', '1', String(process.pid)]);
  return true;
}

/** Starts a server, looks at it once it is ready, and stops it. */
async function startedServer(processes: number): Promise<StartedServer> {
  const startMs = systemClock.monotonicMs();
  const options = ['--processes', String(processes)];
  const { command, stop } = await serveCommand(folder, folder, options);
  const readyMs = systemClock.monotonicMs() - startMs;
  const memoryKiB = familyOf(command.pid).reduce((sum, pid) => {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    return sum + Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? NaN);
  }, 0);
  await stop();
  return { processes, readyMs, memoryMiB: memoryKiB / 1024 };
}

const ReadySchema = z.strictObject({ url: z.url(), kernelUrl: z.url() });
const KernelSchema = z.strictObject({
  ...{ medianUs: z.number(), leastUs: z.number(), cpuUs: z.number() },
});

async function measuredRound(
  url: string,
  pid: number,
  requests: readonly Buffer[],
): Promise<FormRound> {
  const load = { url, requests, connectionCount: CONNECTIONS };
  // The first second warms up.
  await saturation(load, 1);
  const ticksBefore = usageOf(pid).ticks;
  const startMs = systemClock.monotonicMs();
  const perSecond = await saturation(load, seconds);
  const answerCount = (perSecond * (systemClock.monotonicMs() - startMs)) / 1_000;
  const cpuUs = (1e6 * (usageOf(pid).ticks - ticksBefore)) / TICKS_PER_SECOND / answerCount;
  const openPerSecond = perSecond / 2;
  const latenciesMs: number[] = [];
  const answered = (answer: Buffer, latencyMs: number): void => {
    requireSuccess(answer);
    latenciesMs.push(latencyMs);
  };
  await openLoop(
    { ...load, connectionCount: OPEN_CONNECTIONS },
    { ratePerSecond: openPerSecond, sleepMs: 0, due: () => answered },
    () => systemClock.sleep(1_000 * seconds),
  );
  const { p50, p99, p999 } = quantilesOf(latenciesMs);
  const requestByteCount = at(requests, 0).length;
  return { perSecond, openPerSecond, cpuUs, p50, p99, p999, requestByteCount };
}

const header = benchHeader();
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = scratchFolder('server');
let side: ChildProcess | null = null;
try {
  const store = new FileObjectStore({ folder });
  const digest = await writeServedBundle(store, adgroupCount);
  await moveLabel(store, 'latest', digest);
  const starts: StartedServer[] = [];
  for (let start = 0; start < STARTS; start += 1)
    for (const processes of PROCESS_COUNTS) starts.push(await startedServer(processes));
  const script = fileURLToPath(new URL('server-side.js', import.meta.url));
  const pin = keepClientApart() ? [TASKSET, '-c', '0'] : [];
  const [file, ...words] = [...pin, process.execPath, script, folder, digest];
  side = spawn(file, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  if (side.stdout === null || side.pid === undefined) throw new Error('the server has not started');
  const [line] = (await once(createInterface(side.stdout), 'line')) as [string];
  const { url, kernelUrl } = ReadySchema.parse(JSON.parse(line));
  const requestsOf = (form: Form): readonly Buffer[] =>
    requestsIn(form, REQUESTS, { adgroupCount, digest }).map((each) =>
      wireRequest(each, new URL(url).host),
    );
  const byForm = FORMS.map((form) => [form, requestsOf(form)] as const);
  const kernel: SideTimes[] = [];
  const measured: Record<Form, FormRound[]> = { binary: [], 'binary texts': [], objects: [] };
  for (let round = 0; round < rounds; round += 1) {
    kernel.push(KernelSchema.parse(await (await fetch(kernelUrl)).json()));
    for (const [form, requests] of byForm) {
      const found = await measuredRound(url, side.pid, requests);
      measured[form].push(found);
      const rate = Math.round(found.perSecond);
      console.log(`round ${round + 1} of ${rounds}: ${form}, ${rate} a second`);
    }
  }
  const record = { ...header, rounds, seconds, adgroupCount, kernel, starts, measured };
  writeResult(options.output, 'serving-server', record, serverPage(record));
} finally {
  side?.kill();
}
