/** The page of the server's bench. */

import { median } from '../../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import type { SideTimes } from '../kernel-measures.js';
import { FORMS, type Form } from './server-setting.js';
import type { StartedServer } from './started-servers.js';

/** A form of requests, or a bare server that takes them. */
export type MeasuredRow = Form | 'control';

export interface FormRound {
  /** Answers a second at saturation. */
  readonly perSecond: number;
  /** The time of the server's process for one request, in microseconds. */
  readonly cpuUs: number;
  /** At half of saturation, from when a request was due. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  /** With its head. */
  readonly requestByteCount: number;
}

export interface ServerRecord extends BenchHeader {
  readonly rounds: number;
  readonly seconds: number;
  readonly adgroupCount: number;
  readonly kernel: SideTimes;
  /** Of the head blocks. */
  readonly blocksMiB: number;
  readonly starts: readonly StartedServer[];
  readonly measured: Readonly<Record<MeasuredRow, readonly FormRound[]>>;
}

const SAID: Readonly<Record<MeasuredRow, string>> = {
  control: 'binary, to a bare node:http server that answers with as many bytes',
  binary: 'binary: hashes of keys, ids of values',
  'binary texts': 'binary: hashes of keys, texts of values',
  columns: 'JSON in columns',
  objects: 'JSON in objects',
};

export function serverPage(record: ServerRecord): string {
  const { measured, kernel, rounds, seconds } = record;
  const middle = (form: MeasuredRow, measure: keyof FormRound): number =>
    median(measured[form].map((round) => round[measure]));
  const kernelPerSecond = 1e6 / kernel.medianUs;
  const ofKernel = middle('binary', 'perSecond') / kernelPerSecond;
  const ofBinary = middle('columns', 'perSecond') / middle('binary', 'perSecond');
  const cpuOfKernel = kernel.cpuUs / middle('binary', 'cpuUs');
  const cpuOfBinary = middle('binary', 'cpuUs') / middle('columns', 'cpuUs');
  const start = (processes: number, measure: 'readyMs' | 'memoryMiB'): number =>
    median(record.starts.flatMap((each) => (each.processes === processes ? [each[measure]] : [])));
  const readySeconds = start(1, 'readyMs') / 1_000;
  const moreMegabytes = ((start(3, 'memoryMiB') - start(2, 'memoryMiB')) * 2 ** 20) / 1e6;
  const slowest = Math.max(middle('binary', 'p99Ms'), middle('columns', 'p99Ms'));
  return [
    ...['# The ranking server', ''],
    `Commit ${record.commit}, ${record.date}, ${record.machine}, load ${record.loadBefore} before. Medians of ${rounds} rounds.`,
    `A request is one context (6 texts) and 500 candidates (4 texts each, and a bid) of 500 of ${grouped(record.adgroupCount)} adgroups, in the`,
    `setting of [the kernel](serving-kernel.md); it asks for the order and the values. One server process; the load comes from another one`,
    `over kept connections: ${seconds} s of saturation by 16 of them, then ${seconds} s in an open loop at half of that rate, with latencies from when`,
    'a request was due. The bare server shows what of a latency is the machine and the load: it parses and scores nothing. Arrays are mapped files, for',
    'the bare kernel too. `qianmo serve` of the bundle is started three times with one, two and three processes: memory counts a page that several have once.',
    '',
    `The bare kernel takes ${grouped(Math.round(kernel.medianUs))} us a request (median; least ${grouped(Math.round(kernel.leastUs))}; processor time ${grouped(Math.round(kernel.cpuUs))}), ${grouped(Math.round(kernelPerSecond))} a second.`,
    '',
    ...markdownTable(
      [
        'body',
        'bytes',
        'requests a second',
        'processor time, us',
        'p50, ms',
        'p99, ms',
        'p99.9, ms',
      ],
      (['control', ...FORMS] as const).map((form) => [
        SAID[form],
        grouped(middle(form, 'requestByteCount')),
        grouped(Math.round(middle(form, 'perSecond'))),
        grouped(Math.round(middle(form, 'cpuUs'))),
        middle(form, 'p50Ms').toFixed(2),
        middle(form, 'p99Ms').toFixed(2),
        middle(form, 'p999Ms').toFixed(2),
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
