/** The page of `plan-bench.ts`: what `qianmo plan` predicts, beside what runs of the same config reach. */

import { median } from '../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';

/** Added to a record of a machine that other work kept busy. */
const READING_UNDER_LOAD = [
  'Other work kept all cores busy meanwhile, and rates of one config and number of workers differ by a factor of up to two',
  'between rounds, so this record does not settle whether the model is right. What it shows is how a plan errs on such a',
  'machine: the time in which a worker waits for a core that strangers use counts as `idleMs`, which more workers divide among them',
  'in the model, but not here. Plan on an idle machine.',
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
    `Tasks per second in the steady state, the median of ${rounds} rounds. Each round plans and then trains, so that both meet the same machine.`,
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
    ...(loadAfter > cores ? READING_UNDER_LOAD : []),
  ].join('\n');
}

function rate(values: readonly number[]): string {
  return grouped(Math.round(median([...values])));
}

function byRound(predicted: readonly number[], measured: readonly number[]): string {
  return predicted.map((value, round) => (value / (measured[round] ?? NaN)).toFixed(2)).join(', ');
}
