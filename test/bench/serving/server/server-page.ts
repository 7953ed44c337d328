/** The page of the server's bench. */

import { median } from '../../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import type { SideTimes } from '../kernel-measures.js';
import { FORMS, type Form } from './server-setting.js';

export interface FormRound {
  /** Answers a second at saturation. */
  readonly perSecond: number;
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
  readonly measured: Readonly<Record<Form, readonly FormRound[]>>;
}

const SAID: Readonly<Record<Form, string>> = {
  binary: 'binary: hashes of keys, ids of values',
  'binary texts': 'binary: hashes of keys, texts of values',
  columns: 'JSON in columns',
  objects: 'JSON in objects',
};

export function serverPage(record: ServerRecord): string {
  const { measured, kernel, rounds, seconds } = record;
  const middle = (form: Form, measure: keyof FormRound): number =>
    median(measured[form].map((round) => round[measure]));
  const kernelPerSecond = 1e6 / kernel.medianUs;
  const ofKernel = middle('binary', 'perSecond') / kernelPerSecond;
  const ofBinary = middle('columns', 'perSecond') / middle('binary', 'perSecond');
  const slowest = Math.max(middle('binary', 'p99Ms'), middle('columns', 'p99Ms'));
  return [
    ...['# The ranking server', ''],
    `Commit ${record.commit}, ${record.date}, ${record.machine}, load ${record.loadBefore} before. Medians of ${rounds} rounds.`,
    `A request is one context (6 texts) and 500 candidates (4 texts each, and a bid) of 500 of ${grouped(record.adgroupCount)} adgroups, in the`,
    `setting of [the kernel](serving-kernel.md); it asks for the order and the values. One server process; the load comes from another one`,
    `over kept connections: ${seconds} s of saturation by 16 of them, then ${seconds} s in an open loop at half of that rate, with latencies from when`,
    'a request was due.',
    '',
    `The bare kernel takes ${grouped(Math.round(kernel.medianUs))} us a request (median; least ${grouped(Math.round(kernel.leastUs))}), ${grouped(Math.round(kernelPerSecond))} a second.`,
    '',
    ...markdownTable(
      ['body', 'bytes', 'requests a second', 'p50, ms', 'p99, ms', 'p99.9, ms'],
      FORMS.map((form) => [
        SAID[form],
        grouped(middle(form, 'requestByteCount')),
        grouped(Math.round(middle(form, 'perSecond'))),
        middle(form, 'p50Ms').toFixed(2),
        middle(form, 'p99Ms').toFixed(2),
        middle(form, 'p999Ms').toFixed(2),
      ]),
    ),
    '',
    ...markdownTable(
      ['bar', 'at least', 'found', 'held'],
      [
        ['binary / bare kernel', '0.65', ofKernel.toFixed(2), ofKernel >= 0.65 ? 'yes' : 'no'],
        ['JSON in columns / binary', '0.7', ofBinary.toFixed(2), ofBinary >= 0.7 ? 'yes' : 'no'],
        ['p99 of both, ms', 'below 5', slowest.toFixed(2), slowest < 5 ? 'yes' : 'no'],
      ],
    ),
    '',
  ].join('\n');
}
