/** The page of the bench of swaps. */

import { grouped, markdownTable, type BenchHeader } from '../../bench-header.js';

export interface Quantiles {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
}

/** Resident pages of files are the system's to take back; others are the process's own. */
export interface ResidentMiB {
  readonly own: number;
  readonly files: number;
}

/** Swaps between two bundles, in milliseconds. */
export interface SwapFigures {
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

export interface SwapRecord extends BenchHeader {
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
  readonly delta: SwapFigures;
}

export function swapPage(record: SwapRecord): string {
  return [
    '# Swaps of a bundle under load',
    '',
    `${record.swapCount} swaps between two bundles of ${grouped(record.adgroupCount)} adgroups, then as many between two deltas over the first of them, each of which changes`,
    `${grouped(record.changedCount)} adgroups. Requests are those of [the server](serving-server.md) in JSON columns, ${record.rate} a second of ${Math.round(record.saturatedRate)} that saturate it,`,
    `in an open loop, with latencies from when a request was due, in milliseconds: ${record.roundCount} rounds of ${record.seconds} seconds without a swap ("before") and ${record.swapCount / record.roundCount} swaps each,`,
    'so that a slow minute of the machine is on both sides. The client runs on the same machine.',
    '',
    ...['## Full bundles', '', ...figureLines(record.full), ''],
    ...['## Deltas', '', ...figureLines(record.delta), ''],
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
