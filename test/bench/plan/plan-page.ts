/** The page of `plan-bench.ts`: what `qianmo plan` predicts, beside what runs of the same config reach. */

import { median } from '../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import { counted } from '../../../shared/names/counted.js';

const READING = [
  'A plan measures short runs. Workers of a longer one run optimized code, which small jobs gain most from, so a run of small jobs is faster than',
  'its plan. Where other work keeps the cores busy, a plan errs the other way: the time in which a worker waits for a core that strangers use counts as',
  '`idleMs`, which more workers divide among them in the model, but not there. Plan on an idle machine.',
  '',
];

export interface PlanResults extends BenchHeader {
  readonly rounds: number;
  readonly loadAfter: number;
  readonly cores: number;
  readonly configs: readonly {
    readonly config: string;
    readonly byWorkers: readonly {
      readonly workers: number;
      /** Tasks per second of each round: predicted with the machine's cores, and with a core for each process. */
      readonly predicted: readonly number[];
      readonly unshared: readonly number[];
      readonly measured: readonly number[];
    }[];
  }[];
}

export function planPage(results: PlanResults): string {
  const { commit, date, machine, loadBefore, loadAfter, rounds, cores, configs } = results;
  const rows = configs.flatMap(({ config, byWorkers }) =>
    byWorkers.map(({ workers, predicted, unshared, measured }) => [
      ...[config, workers, rate(predicted), rate(measured)],
      (median([...predicted]) / median([...measured])).toFixed(2),
      byRound(predicted, measured),
      rate(unshared),
    ]),
  );
  return [
    '# Predictions of `qianmo plan` beside runs',
    '',
    `\`npm run bench:plan\`, commit ${commit}, ${date}, ${machine}, load ${loadBefore} before and ${loadAfter} after.`,
    `Tasks per second in the steady state, the median of ${counted(rounds, 'round')}. Each round plans and then trains, so that both meet the same machine.`,
    '',
    ...markdownTable(
      [
        ...['config', 'workers', `predicted, \`--cores ${cores}\``, 'measured', 'ratio'],
        ...['ratio by round', 'predicted, a core each'],
      ],
      rows,
    ),
    '',
    'The configs are those of `npm run bench:scaling`. ![Throughput by workers, a core each](plan.svg) shows the prediction for `heavy` on up to',
    '10,000 workers, which cannot be run here.',
    '',
    ...READING,
  ].join('\n');
}

function rate(values: readonly number[]): string {
  return grouped(Math.round(median([...values])));
}

function byRound(predicted: readonly number[], measured: readonly number[]): string {
  return predicted.map((value, round) => (value / (measured[round] ?? NaN)).toFixed(2)).join(', ');
}
