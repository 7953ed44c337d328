/** The page of the kernel's bench. */

import { median } from '../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import type { SideTimes } from './kernel-measures.js';
import { counted } from '../../../shared/names/counted.js';

export interface KernelRecord extends BenchHeader {
  readonly rounds: number;
  readonly adgroupCount: number;
  /** Instruction sets of the kernel on this machine, the one that runs first. */
  readonly kernels: readonly string[];
  readonly times: Readonly<Record<string, readonly SideTimes[]>>;
  /** Largest difference of a logit from plain TypeScript. */
  readonly differences: Readonly<Record<string, number>>;
}

const SAID: Readonly<Record<string, string>> = {
  kernel: 'kernel, head blocks in float32',
  'kernel avx2': 'the same on AVX2',
  'kernel portable': 'the same on portable code',
  'kernel float16': 'kernel, head blocks in float16',
  'kernel int8': 'kernel, head blocks in int8',
  'shared head': 'kernel, one shared head and an ID embedding',
  torch: 'PyTorch, gathered weights, context once',
  typescript: 'plain TypeScript (the reference scorer)',
};

interface Bar {
  readonly name: string;
  readonly over: string;
  readonly under: string;
  readonly least: number;
}

/** Time of `over` by time of `under`. */
const BARS: readonly Bar[] = [
  { name: 'PyTorch / kernel', over: 'torch', under: 'kernel', least: 2.5 },
  { name: 'plain TypeScript / kernel', over: 'typescript', under: 'kernel', least: 15 },
  { name: 'shared head / personal head', over: 'shared head', under: 'kernel', least: 0.9 },
  {
    name: 'shared head / personal head, int8',
    over: 'shared head',
    under: 'kernel int8',
    least: 0.9,
  },
];

const MEASURES = ['cpuUs', 'medianUs', 'leastUs'] as const;

export function kernelPage(record: KernelRecord): string {
  const { times } = record;
  const named = Object.keys(SAID).filter((name) => (times[name]?.length ?? 0) > 0);
  return [
    ...['# The scoring kernel', ''],
    `Commit ${record.commit}, ${record.date}, ${record.machine}, load ${record.loadBefore} before. ${counted(record.rounds, 'round')}; in each, every way has a turn.`,
    `A request is one context (6 fields) and 500 candidates (4 fields and the adgroup's embedding) of 500 of ${grouped(record.adgroupCount)} adgroups:`,
    'DeepFM, width 16, tower 176-128-64-1, tables of up to a million rows. A head block is bias, embedding and output layer.',
    `Fastest instruction set here: ${record.kernels[0] ?? 'portable'}. Other programs ran on the machine, so that wall times are longer than on an idle one;`,
    'processor time counts all threads of the process and leaves other programs out. Microseconds a request, medians over the rounds; the least wall time is that of all calls.',
    '',
    ...markdownTable(
      ['way', 'processor time', 'wall, median', 'wall, least'],
      named.map((name) => [
        SAID[name] ?? name,
        ...MEASURES.map((measure) => grouped(Math.round(overRounds(times[name] ?? [], measure)))),
      ]),
    ),
    ...[
      '',
      '## Bars',
      '',
      'Ratios of processor times, round by round, and their median; beside it that of the least wall times.',
      '',
    ],
    ...markdownTable(
      ['ratio', 'bar', 'processor time', 'least wall time', 'held'],
      BARS.map((bar) => {
        const ratio = ratioOf(record, bar);
        const least =
          overRounds(times[bar.over] ?? [], 'leastUs') /
          overRounds(times[bar.under] ?? [], 'leastUs');
        return [
          bar.name,
          bar.least,
          rounded(ratio),
          rounded(least),
          ratio >= bar.least ? 'yes' : 'no',
        ];
      }),
    ),
    '',
    'The reference scorer sums in double precision and is written to be read. TypeScript in single precision that was',
    'tuned for this model alone took 19 times its kernel, in the proof of the design on another machine.',
    '',
    `Largest difference of a logit from plain TypeScript in the same float32 blocks: ${Object.entries(
      record.differences,
    )
      .map(([name, difference]) => `${name} ${difference.toExponential(1)}`)
      .join(', ')}.`,
    '',
  ].join('\n');
}

function overRounds(turns: readonly SideTimes[], measure: (typeof MEASURES)[number]): number {
  const values = turns.map((turn) => turn[measure]);
  return measure === 'leastUs' ? Math.min(...values) : median(values);
}

function ratioOf({ times }: KernelRecord, { over, under }: Bar): number {
  const below = times[under] ?? [];
  const above = times[over] ?? [];
  return median(above.map(({ cpuUs }, round) => cpuUs / (below[round]?.cpuUs ?? NaN)));
}

function rounded(value: number): string {
  return value >= 100 ? grouped(Math.round(value)) : value.toFixed(2);
}
