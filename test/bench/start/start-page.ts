/** The page of `start-bench.ts`: the time until the first outer step, and where it goes. */

import { median } from '../../../shared/base/arrays.js';
import { markdownTable, type BenchHeader } from '../bench-header.js';
import { counted } from '../../../shared/names/counted.js';

export const WAYS = ['--processes 1', '--workers 1', '--workers 2'] as const;

/** One start, in milliseconds since the command was called. */
export interface MeasuredStart {
  /** The first compute process has loaded TensorFlow. */
  readonly readyMs: number;
  /** The store is open and the first outer step begins. */
  readonly runMs: number;
  /** The first outer step has ended. */
  readonly stepMs: number;
  /** Processor time of all processes from the call to the exit of a run of one outer step. */
  readonly cpuMs: number;
}

export interface StartResults extends BenchHeader {
  readonly rounds: number;
  /** Load average of the last minute, after the measurement. */
  readonly loadAfter: number;
  readonly checkouts: readonly {
    readonly commit: string;
    readonly ways: Readonly<Record<string, readonly MeasuredStart[]>>;
    /** Processor time of `qianmo --help`. */
    readonly helpCpuMs: readonly number[];
  }[];
}

export function startPage(results: StartResults): string {
  const { commit, date, machine, rounds, loadBefore, loadAfter, checkouts } = results;
  const rows = WAYS.flatMap((way) =>
    checkouts.map((checkout) => {
      const starts = checkout.ways[way] ?? [];
      const cell = (key: keyof MeasuredStart): string => seconds(starts.map((each) => each[key]));
      return [
        ...[`\`${way}\``, checkout.commit, cell('readyMs'), cell('runMs'), cell('stepMs')],
        cell('cpuMs'),
      ];
    }),
  );
  const help = checkouts
    .map(({ commit, helpCpuMs }) => `${seconds(helpCpuMs)} at ${commit}`)
    .join(', ');
  return [
    '# From the command to the first outer step',
    '',
    `\`npm run bench:start\`, commit ${commit}, ${date}, ${machine}, load ${loadBefore} before and ${loadAfter} after.`,
    `\`qianmo train\` on the prepared store of infra/examples/movielens.yaml, on a machine that ran before. Seconds, the`,
    `median of ${counted(rounds, 'interleaved round')}, and the least in brackets.`,
    '',
    ...markdownTable(
      ['', 'commit', 'TensorFlow ready', 'first step begins', 'first step done', 'processor time'],
      rows,
    ),
    '',
    'Processor time is that of all processes to the exit of a run of one outer step. On an idle machine the first step is',
    'done no sooner than after this time divided by the number of cores. `qianmo --help` takes',
    `${help} of it.`,
    '',
    'With `--processes 1` the compute process is forked before the command loads its own code, so that both load side by side; with',
    'workers, those that have two cores each, and the others follow when one is ready ([0016](../decisions/0016-worker-processes.md)).',
    '',
  ].join('\n');
}

function seconds(values: readonly number[]): string {
  const inSeconds = (ms: number): string => (ms / 1_000).toFixed(2);
  return `${inSeconds(median([...values]))} (${inSeconds(Math.min(...values))})`;
}
