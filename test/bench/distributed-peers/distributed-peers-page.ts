/** The page of `distributed-peers-bench.ts`: rates, what a second worker adds, and steps without computing. */

import { median } from '../../../shared/base/arrays.js';
import { circumstances, grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import { SYSTEMS, type Contestant, type System } from './contestants.js';

interface MeasuredContestant extends Contestant {
  /** Rates of the steady state, by round. */
  readonly tasksPerSecond: readonly number[];
  /** A step of the same bytes over the same Redis without our code, by round; empty for others, absent in older records. */
  readonly bareStepMs?: readonly number[] | undefined;
}

export interface CheckedContestant {
  readonly name: string;
  /** The largest difference from the exact update beyond rounding, divided by the largest update of its tensor. */
  readonly relativeError: number;
  readonly tensor: string;
}

export interface DistributedPeersRecord extends BenchHeader {
  readonly outerSteps: number;
  readonly versions: Readonly<Record<string, string>>;
  readonly tasksPerStep: number;
  readonly measured: readonly MeasuredContestant[];
  readonly checked: readonly CheckedContestant[];
}

const TITLES: Readonly<Record<System, string>> = {
  ours: 'ours: coordinator with local workers',
  redis: 'ours: workers that share Redis alone',
  gloo: 'PyTorch, gloo',
  ray: 'PyTorch, Ray actors',
};

const MS_PER_SECOND = 1_000;

export function distributedPeersPage(record: DistributedPeersRecord): string {
  const { measured, checked } = record;
  const rateOf = (system: System, workerCount: number, computes: boolean): number | null => {
    const found = measured.find(
      (each) =>
        each.system === system && each.workerCount === workerCount && each.computes === computes,
    );
    const rates = found?.tasksPerSecond ?? [];
    return rates.length === 0 ? null : median(rates);
  };
  const rate = (value: number | null): string => (value === null ? '' : grouped(Math.round(value)));
  const ratio = (value: number | null, of: number | null): string =>
    value === null || of === null ? '' : (value / of).toFixed(2);
  const stepMs = (value: number | null): string =>
    value === null ? '' : ((record.tasksPerStep * MS_PER_SECOND) / value).toFixed(1);
  const bareMs = (workerCount: number): string => {
    const took = measured.filter((each) => each.workerCount === workerCount && !each.computes);
    const steps = took.flatMap(({ bareStepMs = [] }) => bareStepMs);
    return steps.length === 0 ? '' : median(steps).toFixed(1);
  };
  const rows = SYSTEMS.map((system) => {
    const [one, two] = [rateOf(system, 1, true), rateOf(system, 2, true)];
    const factors = [ratio(two, one), ratio(rateOf('ours', 2, true), two)];
    const idle = [1, 2].map((workerCount) => stepMs(rateOf(system, workerCount, false)));
    return [TITLES[system], rate(one), rate(two), ...factors, ...idle];
  });
  const spreads = measured
    .filter(({ tasksPerSecond }) => tasksPerSecond.length > 0)
    .map(({ name, tasksPerSecond }) => [
      ...[name, rate(Math.min(...tasksPerSecond)), rate(median(tasksPerSecond))],
      rate(Math.max(...tasksPerSecond)),
    ]);
  const versions = Object.entries(record.versions).map((entry) => entry.join(' '));
  return [
    '# W2 over several processes, beside gloo and Ray',
    '',
    `${circumstances(record)} ${versions.join(', ')}.`,
    `Workload W2, first order, five inner steps, ${record.tasksPerStep} tasks a step, a core for each worker: tasks per second in the steady state, medians over`,
    `interleaved rounds, in our runs the second half of ${record.outerSteps} outer steps.`,
    '',
    ...markdownTable(
      [
        ...['', '1 worker', '2 workers', '2 workers / 1 worker', 'ours with 2 workers / this'],
        ...['step without computing, 1 worker, ms', '2 workers, ms'],
      ],
      rows,
    ),
    '',
    `The bytes of our steps without computing, between as many clients of the same library over the same Redis: ${bareMs(1)} ms`,
    `with one, ${bareMs(2)} ms with two.`,
    '',
    '## Agreement',
    '',
    'One step of a small case against the update in float64. The bench ends with an error above 1e-3.',
    '',
    ...markdownTable(
      ['', 'error', 'tensor'],
      checked.map(({ name, relativeError, tensor }) => [
        ...[name, relativeError.toExponential(1), tensor],
      ]),
    ),
    '',
    '## Spread over the rounds, tasks per second',
    '',
    ...markdownTable(['', 'least', 'median', 'most'], spreads),
    '',
  ].join('\n');
}
