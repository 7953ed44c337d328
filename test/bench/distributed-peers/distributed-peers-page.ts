/** The page of `distributed-peers-bench.ts`: rates, what a second worker adds, and steps without computing. */

import { median } from '../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import { SYSTEMS, type Contestant, type System } from './contestants.js';

export interface MeasuredContestant extends Contestant {
  /** Rates of the steady state, by round. */
  readonly tasksPerSecond: readonly number[];
}

export interface CheckedContestant {
  readonly name: string;
  /** The largest difference from the exact update beyond rounding, divided by the largest update of its tensor. */
  readonly relativeError: number;
  readonly tensor: string;
}

export interface DistributedPeersRecord extends BenchHeader {
  /** Load average of the last minute, after the measurement. */
  readonly loadAfter: number;
  readonly rounds: number;
  readonly secondsPerRun: number;
  readonly outerSteps: number;
  readonly variant: string;
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
  const { commit, date, machine, loadBefore, loadAfter, measured, checked } = record;
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
  const counts = measured
    .map(({ tasksPerSecond }) => tasksPerSecond.length)
    .filter((count) => count > 0);
  const most = Math.max(...counts);
  const fewest = Math.min(...counts);
  const roundsText = fewest < most ? `${fewest} to ${most}` : String(most);
  const inProcess = rateOf('ours', 0, true);
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
    `\`npm run bench -- distributed-peers\`, commit ${commit}, ${date}, ${machine}, ${versions.join(', ')},`,
    `load ${loadBefore} before and ${loadAfter} after. Workload W2, first order, five inner steps, ${record.tasksPerStep} tasks a step. Tasks per second in`,
    `the steady state, the median of ${roundsText} interleaved rounds. Of our runs, which have ${record.outerSteps} outer steps, the second half counts.`,
    '',
    ...markdownTable(
      [
        ...['', '1 worker', '2 workers', '2 workers / 1 worker', 'ours with 2 workers / this'],
        ...['step without computing, 1 worker, ms', '2 workers, ms'],
      ],
      rows,
    ),
    '',
    `In process, with coordinator and computation on one core and no queue, ours does ${rate(inProcess)} tasks a second; two workers do`,
    `${ratio(rateOf('ours', 2, true), inProcess)} times that.`,
    '',
    '## What is compared',
    '',
    'The peers read the rows and initial values of our run, so all compute the same steps on the same data: 32 support and 32 query',
    'rows a task, ten categories on a million rows of 16 floats, an MLP 160-128-64-1 whose last two layers are adapted. All workers have one',
    'thread. Each process that computes is pinned to a core of its own, here and there; the process that serves two of ours, our coordinator and Redis, and',
    "Ray's driver and daemons, run where the system puts them. The gradient is the first-order one in all of them; each sums rows by",
    'unique id before it sends them.',
    '',
    '- Ours is the production run, synchronous, in jobs of 32 tasks, with events and a checkpoint at the end: `qianmo train --workers`, whose workers',
    '  exchange blobs through a folder in memory, or `qianmo train` with `qianmo worker` processes, whose blobs go through Redis as between machines.',
    `- The peers compute by PyTorch (\`${record.variant}\`), and do nothing else: no queue, no retries, no checkpoints; their batches lie in memory as tensors, where ours are read from the task store in every step. With gloo, layers are summed by an`,
    '  all-reduce and rows are gathered by all. With Ray, the driver sums the layers of its actors and hands them the rows of all.',
    '- Without computing, the peers send the gradients of an earlier step again, and our workers zeros of the same size after a number that differs by job. Our coordinator does all that it does.',
    '',
    '## Agreement',
    '',
    'One step of a small case beside the update in float64: the largest difference beyond one rounding of the stored value, divided by the',
    'largest update of the tensor. Two workers of a peer store a row that both have touched twice, and it is rounded twice. The bench ends',
    'with an error above 1e-3.',
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
