/**
 * The ranking server in one process beside its bare kernel and a bare server of HTTP: saturation, then an open loop
 * at half of it, in interleaved rounds; and how long servers of the bundle take to be ready, and their memory. Writes `infra/results/serving-server.json` and `.md`.
 *
 *   npm run bench -- serving server --rounds 3 --adgroups 1000000 --seconds 10
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir, availableParallelism } from 'node:os';
import { join } from 'node:path';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { scoringAddon } from '../../../../infra/bootstrap/native-addons.mjs';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { at, median } from '../../../../shared/base/arrays.js';
import { moveLabel } from '../../../../shared/bundle/bundle-labels.js';
import { FileObjectStore } from '../../../../shared/storage/file-object-store.js';
import { benchHeader, grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import { benchOptions } from '../../options/bench-options.js';
import { amount, text, wholeNumber } from '../../options/option-values.js';
import { openLoop, wireRequest, saturation } from './load.js';
import type { SideTimes } from '../kernel-measures.js';
import { FORMS, requestsIn, writeServedBundle, type Form } from './server-setting.js';
import { startedServer, type StartedServer } from './started-servers.js';
import { systemClock } from '../../../../shared/base/clock.js';
import { usageOf } from '../../resident-memory.js';
import { counted } from '../../../../shared/names/counted.js';

/** A form of requests, or a bare server that takes them at the rate of the ranking server, and one that is as busy with each. */
type MeasuredRow = Form | `${'binary' | 'objects'}, ${'bare' | 'busy'}`;

const ROWS = [
  ...(['binary, bare', 'binary, busy', 'binary', 'binary texts'] as const),
  ...(['objects, bare', 'objects, busy', 'objects'] as const),
];

interface FormRound {
  /** Answers a second at saturation. */
  readonly perSecond: number;
  /** The time of the server's process for one request, in microseconds. */
  readonly cpuUs: number;
  /** Requests a second in the open loop. */
  readonly openPerSecond: number;
  /** Latencies in the open loop, from when a request was due. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  /** Time of the client in the open loop in turns that took longer than a millisecond. */
  readonly stillMs: number;
  /** With its head. */
  readonly requestByteCount: number;
}

interface ServerRecord extends BenchHeader {
  /** True where servers had one core, and the client another. */
  readonly areApart: boolean;
  readonly rounds: number;
  readonly seconds: number;
  readonly adgroupCount: number;
  /** Rates by round. */
  readonly kernel: readonly SideTimes[];
  /** Of the head blocks. */
  readonly blocksMiB: number;
  readonly starts: readonly StartedServer[];
  readonly measured: Readonly<Record<MeasuredRow, readonly FormRound[]>>;
}

const SAID: Readonly<Record<MeasuredRow, string>> = {
  'binary, bare': 'binary, to a bare server at the same rate',
  'binary, busy': 'the same, busy for as long as the ranking server',
  'objects, bare': 'objects, to a bare server at the same rate',
  'objects, busy': 'the same, busy for as long as the ranking server',
  binary: 'binary: hashes of keys, ids of values',
  'binary texts': 'binary: hashes of keys, texts of values',
  objects: 'JSON in objects',
};

function serverPage(record: ServerRecord): string {
  const { measured, rounds, seconds, areApart } = record;
  const kernelMedian = (measure: keyof SideTimes): number =>
    median(record.kernel.map((round) => round[measure]));
  const ratioOf = (ofRound: (round: number) => number): number =>
    median(Array.from({ length: rounds }, (_, round) => ofRound(round)));
  const middle = (form: MeasuredRow, measure: keyof FormRound): number =>
    median(measured[form].map((round) => round[measure]));
  const kernelPerSecond = 1e6 / kernelMedian('medianUs');
  const found = (form: MeasuredRow, round: number): FormRound => at(measured[form], round);
  const kernelAt = (round: number): SideTimes => at(record.kernel, round);
  const ofKernel = ratioOf(
    (round) => (found('binary', round).perSecond * kernelAt(round).medianUs) / 1e6,
  );
  const ofBinary = ratioOf(
    (round) => found('objects', round).perSecond / found('binary', round).perSecond,
  );
  const cpuOfKernel = ratioOf((round) => kernelAt(round).cpuUs / found('binary', round).cpuUs);
  const cpuOfBinary = ratioOf(
    (round) => found('binary', round).cpuUs / found('objects', round).cpuUs,
  );
  const start = (processes: number, measure: 'readyMs' | 'memoryMiB'): number =>
    median(record.starts.flatMap((each) => (each.processes === processes ? [each[measure]] : [])));
  const readySeconds = start(1, 'readyMs') / 1_000;
  const moreMegabytes = ((start(3, 'memoryMiB') - start(2, 'memoryMiB')) * 2 ** 20) / 1e6;
  const slowest = Math.max(middle('binary', 'p99Ms'), middle('objects', 'p99Ms'));
  const slowestBare = Math.max(middle('binary, bare', 'p99Ms'), middle('objects, bare', 'p99Ms'));
  const slowestBusy = Math.max(middle('binary, busy', 'p99Ms'), middle('objects, busy', 'p99Ms'));
  return [
    ...['# The ranking server', ''],
    `Commit ${record.commit}, ${record.date}, ${record.machine}, load ${record.loadBefore} before. Medians of ${counted(rounds, 'round')}.`,
    `A request is one context (6 texts) and 500 candidates (4 texts each, and a bid) of 500 of ${grouped(record.adgroupCount)} adgroups, in the`,
    `setting of [the kernel](serving-kernel.md); it asks for the order and the values. One server process; the load comes from another one`,
    `over kept connections: ${seconds} s of saturation by 16 of them, then ${seconds} s in an open loop at half of that rate, with latencies from when`,
    `a request was due. ${areApart ? 'Servers have one core, the client has the other and never sleeps' : 'Servers and client share the cores; the client never sleeps'}. A bare node:http server gets the same bytes at the same rate in the`,
    'same round and answers with as many: it parses and scores nothing, so that it shows what of a latency is the machine and the load; once more while it is busy with each request for as long as the ranking server, so that',
    'requests wait for each other as they do there: what is left of its tail is no fault of what the ranking server does with its time. The last column is the time in which the client stood still for more than a millisecond at a time, which',
    'latencies have in them. Ratios are medians over rounds. Arrays are mapped files, for',
    'the bare kernel too, which is timed in each round. `qianmo serve` of the bundle is started three times with one, two and three processes: memory counts a page that several have once.',
    '',
    `The bare kernel takes ${grouped(Math.round(kernelMedian('medianUs')))} us a request (median; least ${grouped(Math.round(kernelMedian('leastUs')))}; processor time ${grouped(Math.round(kernelMedian('cpuUs')))}), ${grouped(Math.round(kernelPerSecond))} a second.`,
    '',
    ...markdownTable(
      [
        'body',
        'bytes',
        'requests a second',
        'processor time, us',
        'open loop, a second',
        'p50, ms',
        'p99, ms',
        'p99.9, ms',
        'client still, ms',
      ],
      ROWS.map((form) => [
        SAID[form],
        grouped(middle(form, 'requestByteCount')),
        grouped(Math.round(middle(form, 'perSecond'))),
        grouped(Math.round(middle(form, 'cpuUs'))),
        grouped(Math.round(middle(form, 'openPerSecond'))),
        middle(form, 'p50Ms').toFixed(2),
        middle(form, 'p99Ms').toFixed(2),
        middle(form, 'p999Ms').toFixed(2),
        grouped(Math.round(middle(form, 'stillMs'))),
      ]),
    ),
    '',
    ...markdownTable(
      ['bar', 'wanted', 'found', 'held'],
      [
        ['binary / bare kernel', '0.65', ofKernel.toFixed(2), ofKernel >= 0.65 ? 'yes' : 'no'],
        [
          'the same, processor time',
          '0.65',
          cpuOfKernel.toFixed(2),
          cpuOfKernel >= 0.65 ? 'yes' : 'no',
        ],
        ['objects / binary', '', ofBinary.toFixed(2), ''],
        ['the same, processor time', '', cpuOfBinary.toFixed(2), ''],
        ['p99 of both, ms', 'below 5', slowest.toFixed(2), slowest < 5 ? 'yes' : 'no'],
        ['that of the bare server', '', slowestBare.toFixed(2), ''],
        ['that of one as busy', '', slowestBusy.toFixed(2), ''],
        ['ready, s', 'below 2', readySeconds.toFixed(2), readySeconds < 2 ? 'yes' : 'no'],
        [
          'one more process, MB',
          'below 100',
          moreMegabytes.toFixed(0),
          moreMegabytes < 100 ? 'yes' : 'no',
        ],
        [
          'head blocks, MiB',
          'below 1,024',
          record.blocksMiB.toFixed(0),
          record.blocksMiB < 1_024 ? 'yes' : 'no',
        ],
      ],
    ),
    '',
  ].join('\n');
}

interface Side {
  readonly pid: number;
  /** The line that it printed. */
  readonly ready: unknown;
}

/** Clock ticks in /proc, on every Linux in use. */
const TICKS_PER_SECOND = 100;

const TASKSET = '/usr/bin/taskset';

/**
 * Keeps this process, which is the client, on the second core. False where that cannot be done.
 */
function keepClientApart(): boolean {
  if (availableParallelism() < 2 || !existsSync(TASKSET)) return false;
  execFileSync(TASKSET, ['-acp', '1', String(process.pid)]);
  return true;
}

class BenchSides {
  readonly #children: ChildProcess[] = [];
  readonly #areApart: boolean;

  /** @param areApart whether the sides run on the first core alone. */
  constructor(areApart = false) {
    this.#areApart = areApart;
  }

  /** @param file compiled, relative to `from`. */
  node(file: string, from: string, words: readonly string[]): Promise<Side> {
    return this.start(process.execPath, [fileURLToPath(new URL(file, from)), ...words]);
  }

  async start(command: string, words: readonly string[]): Promise<Side> {
    const [file, ...rest] = this.#areApart
      ? ([TASKSET, '-c', '0', command, ...words] as const)
      : ([command, ...words] as const);
    const child = spawn(file, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    return { pid: child.pid ?? 0, ready: JSON.parse(line) };
  }

  stop(): void {
    for (const child of this.#children) child.kill();
  }
}

interface Saturated {
  /** Answers a second. */
  readonly perSecond: number;
  /** The time of the server's process for one request, in microseconds. */
  readonly cpuUs: number;
}

/** The first second warms up. */
async function saturated(pid: number, load: Parameters<typeof saturation>[0]): Promise<Saturated> {
  await saturation({ ...load, seconds: 1 });
  const ticksBefore = usageOf(pid).ticks;
  const startMs = systemClock.monotonicMs();
  const perSecond = await saturation(load);
  const answerCount = (perSecond * (systemClock.monotonicMs() - startMs)) / 1_000;
  const cpuUs = (1e6 * (usageOf(pid).ticks - ticksBefore)) / TICKS_PER_SECOND / answerCount;
  return { perSecond, cpuUs };
}

const REQUESTS = 200;
const CONNECTIONS = 16;
/** Of an open loop; more requests than that are late anyway. */
const OPEN_CONNECTIONS = 64;

const options = benchOptions(import.meta.url, {
  rounds: {
    value: wholeNumber(1, 100),
    default: '3',
    about: 'how often everything is measured, in turns',
  },
  adgroups: {
    value: wholeNumber(1000, 4_000_000),
    default: '1000000',
    about: 'adgroups of the bundle',
  },
  seconds: {
    value: amount(600),
    default: '10',
    about: 'seconds of each load',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { rounds, seconds, adgroups: adgroupCount, output } = options;

const ReadySchema = z.strictObject({
  url: z.url(),
  kernelUrl: z.url(),
  blocksMiB: z.number(),
});
const KernelSchema = z.strictObject({
  ...{ medianUs: z.number(), leastUs: z.number(), cpuUs: z.number() },
});
const ControlReadySchema = z.strictObject({ url: z.url() });

const STARTS = 3;

const header = benchHeader(packageRoot.pathname);
await scoringAddon.install((text) => console.log(text), { retry: true });
const folder = mkdtempSync(join(tmpdir(), 'qianmo-server-'));
const areApart = keepClientApart();
const sides = new BenchSides(areApart);

interface Measured {
  readonly url: string;
  readonly pid: number;
  readonly requests: readonly Buffer[];
}

/** @param ratePerSecond of the open loop; half of saturation if absent. */
async function measuredRound(
  { url, pid, requests }: Measured,
  ratePerSecond?: number,
): Promise<FormRound> {
  const load = { url, requests, seconds, connectionCount: CONNECTIONS };
  const { perSecond, cpuUs } = await saturated(pid, load);
  const openPerSecond = ratePerSecond ?? perSecond / 2;
  const open = { ...load, connectionCount: OPEN_CONNECTIONS };
  const { latenciesMs: latencies, stillMs } = await openLoop(open, openPerSecond);
  const quantile = (share: number): number =>
    at(latencies, Math.min(latencies.length - 1, Math.floor(share * latencies.length)));
  return {
    ...{ perSecond, openPerSecond, cpuUs },
    ...{ p50Ms: quantile(0.5), p99Ms: quantile(0.99), p999Ms: quantile(0.999) },
    ...{ requestByteCount: at(requests, 0).length, stillMs },
  };
}

try {
  const store = new FileObjectStore({ folder });
  const digest = await writeServedBundle(store, adgroupCount);
  await moveLabel(store, 'latest', digest);
  const starts: StartedServer[] = [];
  for (let start = 0; start < STARTS; start += 1) {
    starts.push(await startedServer(folder, 1));
    for (const processes of [2, 3]) starts.push(await startedServer(folder, processes));
  }
  const serverSide = await sides.node('server-side.js', import.meta.url, [folder, digest]);
  const controlSide = await sides.node('control-side.js', import.meta.url, []);
  const server = ReadySchema.parse(serverSide.ready);
  const control = ControlReadySchema.parse(controlSide.ready);
  const requestsOf = (form: Form, url: string, path?: string): readonly Buffer[] =>
    requestsIn(form, REQUESTS, { adgroupCount, digest }).map((each) =>
      wireRequest(each, new URL(url).host, path),
    );
  const ofServer = (form: Form): Measured => ({
    ...{ url: server.url, pid: serverSide.pid, requests: requestsOf(form, server.url) },
  });
  const ofControl = (form: Form, path = '/'): Measured => ({
    ...{ url: control.url, pid: controlSide.pid, requests: requestsOf(form, control.url, path) },
  });
  const controls = { binary: ofControl('binary'), objects: ofControl('objects') };
  const byForm = FORMS.map((form) => [form, ofServer(form)] as const);
  const kernel: SideTimes[] = [];
  const measured: Record<MeasuredRow, FormRound[]> = {
    ...{ 'binary, bare': [], 'binary, busy': [], binary: [], 'binary texts': [] },
    ...{ 'objects, bare': [], 'objects, busy': [], objects: [] },
  };
  for (let round = 0; round < rounds; round += 1) {
    kernel.push(KernelSchema.parse(await (await fetch(server.kernelUrl)).json()));
    for (const [form, of] of byForm) {
      const found = await measuredRound(of);
      measured[form].push(found);
      if (form === 'binary' || form === 'objects') {
        const bare = await measuredRound(controls[form], found.openPerSecond);
        const busyUs = Math.max(0, Math.round(found.cpuUs - bare.cpuUs));
        const busy = ofControl(form, `/busy/${busyUs}`);
        measured[`${form}, bare`].push(bare);
        measured[`${form}, busy`].push(await measuredRound(busy, found.openPerSecond));
      }
      console.log(
        `round ${round + 1} of ${rounds}: ${form}, ${Math.round(found.perSecond)} a second`,
      );
    }
  }
  const { blocksMiB } = server;
  const record: ServerRecord = {
    ...{ ...header, areApart, rounds, seconds, adgroupCount, kernel, blocksMiB, starts, measured },
  };
  mkdirSync(output, { recursive: true });
  const page = serverPage(record);
  writeFileSync(join(output, 'serving-server.json'), `${JSON.stringify(record)}\n`);
  writeFileSync(join(output, 'serving-server.md'), page);
  console.log(page);
} finally {
  sides.stop();
  rmSync(folder, { recursive: true, force: true });
}
