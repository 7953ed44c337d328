/** The page of the server's bench. */

import { counted } from '../../../../shared/names/counted.js';
import { at, median } from '../../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import type { SideTimes } from '../kernel-measures.js';
import type { Form } from './server-setting.js';
import type { StartedServer } from './started-servers.js';

/** A form of requests, or a bare server that takes them at the rate of the ranking server, and one that is as busy with each. */
export type MeasuredRow = Form | `${'binary' | 'columns'}, ${'bare' | 'busy'}`;

const ROWS = [
  ...(['binary, bare', 'binary, busy', 'binary', 'binary texts'] as const),
  ...(['columns, bare', 'columns, busy', 'columns', 'objects'] as const),
];

export interface FormRound {
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

export interface ServerRecord extends BenchHeader {
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
  'columns, bare': 'columns, to a bare server at the same rate',
  'columns, busy': 'the same, busy for as long as the ranking server',
  binary: 'binary: hashes of keys, ids of values',
  'binary texts': 'binary: hashes of keys, texts of values',
  columns: 'JSON in columns',
  objects: 'JSON in objects',
};

export function serverPage(record: ServerRecord): string {
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
    (round) => found('columns', round).perSecond / found('binary', round).perSecond,
  );
  const cpuOfKernel = ratioOf((round) => kernelAt(round).cpuUs / found('binary', round).cpuUs);
  const cpuOfBinary = ratioOf(
    (round) => found('binary', round).cpuUs / found('columns', round).cpuUs,
  );
  const start = (processes: number, measure: 'readyMs' | 'memoryMiB'): number =>
    median(record.starts.flatMap((each) => (each.processes === processes ? [each[measure]] : [])));
  const readySeconds = start(1, 'readyMs') / 1_000;
  const moreMegabytes = ((start(3, 'memoryMiB') - start(2, 'memoryMiB')) * 2 ** 20) / 1e6;
  const slowest = Math.max(middle('binary', 'p99Ms'), middle('columns', 'p99Ms'));
  const slowestBare = Math.max(middle('binary, bare', 'p99Ms'), middle('columns, bare', 'p99Ms'));
  const slowestBusy = Math.max(middle('binary, busy', 'p99Ms'), middle('columns, busy', 'p99Ms'));
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
        ['JSON in columns / binary', '0.7', ofBinary.toFixed(2), ofBinary >= 0.7 ? 'yes' : 'no'],
        [
          'the same, processor time',
          '0.7',
          cpuOfBinary.toFixed(2),
          cpuOfBinary >= 0.7 ? 'yes' : 'no',
        ],
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
