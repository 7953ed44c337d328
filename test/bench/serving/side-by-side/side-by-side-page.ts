/** The page of the servers side by side. */

import { median } from '../../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../../bench-header.js';
import type { Saturated } from '../server/bench-sides.js';
import { counted } from '../../../../shared/names/counted.js';

export const ROWS = ['binary', 'columns', 'objects', 'shared', 'onnx', 'tensorflow'] as const;
export type Row = (typeof ROWS)[number];

export interface SideBySideRecord extends BenchHeader {
  readonly rounds: number;
  readonly seconds: number;
  readonly adgroupCount: number;
  /** Rate of the open loop, for every server. */
  readonly rate: number;
  readonly saturations: Readonly<Record<Row, readonly Saturated[]>>;
  readonly latencies: Readonly<
    Record<Row, readonly { readonly p50Ms: number; readonly p99Ms: number }[]>
  >;
  /** Difference of a value from that of the binary form. */
  readonly differences: Readonly<Record<string, number>>;
  readonly onnx: string;
  readonly tensorflow: string;
}

export function sideBySidePage(record: SideBySideRecord): string {
  const { saturations, latencies, differences, rate } = record;
  const said: Readonly<Record<Row, string>> = {
    binary: 'qianmo, binary: hashes of keys, ids of values',
    columns: 'qianmo, JSON in columns',
    objects: 'qianmo, JSON in objects',
    shared: 'qianmo, one shared head and an ID embedding, binary',
    onnx: `the bundle in ${record.onnx} behind a bare node:http server, numbers`,
    tensorflow: `the bundle as a SavedModel in Python TensorFlow ${record.tensorflow} behind a bare server, numbers`,
  };
  const perSecond = (row: Row): number => median(saturations[row].map((each) => each.perSecond));
  const rows = ROWS.map((row) => [
    said[row],
    grouped(Math.round(perSecond(row))),
    (perSecond('binary') / perSecond(row)).toFixed(2),
    grouped(Math.round(median(saturations[row].map(({ cpuUs }) => cpuUs)))),
    median(latencies[row].map(({ p50Ms }) => p50Ms)).toFixed(2),
    median(latencies[row].map(({ p99Ms }) => p99Ms)).toFixed(2),
    differences[row]?.toExponential(1) ?? 'another model',
  ]);
  return [
    ...['# Ranking servers side by side', ''],
    `Commit ${record.commit}, ${record.date}, ${record.machine}, load ${record.loadBefore} before. Medians of ${counted(record.rounds, 'round')}. Made by \`npm run bench:side-by-side\`.`,
    `The requests are those of [the ranking server](serving-server.md): one context and 500 candidates of 500 of ${grouped(record.adgroupCount)} adgroups, each with a personal head.`,
    `Every server is one process on one thread, and is saturated for ${record.seconds} s by 16 connections. Then all get ${grouped(rate)} requests a second, half of what the slowest bears, in an open loop, with latencies from when a request was due.`,
    '',
    ...markdownTable(
      [
        ...['server', 'requests a second', 'qianmo in binary is faster by', 'processor time, us'],
        ...['p50, ms', 'p99, ms', 'largest difference of a value'],
      ],
      rows,
    ),
    '',
    'The other servers get numbers in place of keys and texts, so that they look nothing up, check nothing, and answer nothing else. They are the least that can be written around',
    'the model that `qianmo export --format` converts, which computes the context for each candidate. TensorFlow Serving itself has no package that npm, PyPI or Debian offer; Python TensorFlow runs the same SavedModel',
    'with the same kernels, in place of its C++ server. TensorFlow Serving would parse and queue in C++ what takes this server part of its time.',
    '',
  ].join('\n');
}
