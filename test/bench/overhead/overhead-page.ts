/** The page of the overhead: what coordinator, queue and work loops cost where jobs compute nothing. */

import { median } from '../../../shared/base/arrays.js';
import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import { LOADS, SIMULATED_LOAD, type LoadName, type MeasuredLoad } from './overhead-cases.js';

/** One checkout's measurements of a case, round by round. */
export interface OverheadRecord extends BenchHeader {
  readonly rounds: number;
  readonly sides: readonly {
    readonly commit: string;
    readonly loads: Readonly<Record<string, readonly MeasuredLoad[]>>;
  }[];
}

type Side = OverheadRecord['sides'][number];

interface Bar {
  readonly name: string;
  readonly bar: string;
  readonly valueOf: (side: Side) => number | null;
  readonly written: (value: number) => string;
  readonly isReached: (value: number) => boolean;
}

const MIB = 1024 * 1024;
const PROCESSES = ['coordinator', 'redis', 'workers', 'proxy'] as const;

/** The median over the rounds; null where the case was not measured. */
function overRounds(side: Side, name: string, of: (load: MeasuredLoad) => number): number | null {
  const loads = side.loads[name] ?? [];
  return loads.length === 0 ? null : median(loads.map(of));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function jobCountOf({ steps }: MeasuredLoad): number {
  return sum(steps.map(({ jobCount }) => jobCount));
}

function overheadMs({ steps }: MeasuredLoad): number {
  return median(steps.map(({ stepMs, longestJobMs }) => stepMs - longestJobMs));
}

function jobsPerSecond(load: MeasuredLoad): number {
  return (1000 * jobCountOf(load)) / sum(load.steps.map(({ stepMs }) => stepMs));
}

function busyShare({ steps }: MeasuredLoad, workerCount: number): number {
  const [jobsMs, stepsMs] = [steps.map((step) => step.jobsMs), steps.map((step) => step.stepMs)];
  return sum(jobsMs) / (workerCount * sum(stepsMs));
}

function processorMsPerJob(side: Side, name: LoadName | 'bare', process: string): number | null {
  return overRounds(side, name, (load) => (load.processorMs[process] ?? 0) / jobCountOf(load));
}

/** By the difference of large and small jobs, which have as many bytes each way. */
function coordinatorMsPerMib(side: Side): number | null {
  const small = processorMsPerJob(side, 'small', 'coordinator');
  const large = processorMsPerJob(side, 'large', 'coordinator');
  if (small === null || large === null) return null;
  return (large - small) / ((2 * (LOADS.large.byteCount - LOADS.small.byteCount)) / MIB);
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

const BARS: readonly Bar[] = [
  {
    name: 'an outer step of 8 jobs on 8 workers, above its longest job',
    bar: 'at most 10 ms',
    valueOf: (side) => overRounds(side, 'step', overheadMs),
    written: (ms) => `${ms.toFixed(1)} ms`,
    isReached: (ms) => ms <= 10,
  },
  {
    name: 'jobs a second, 64 KiB each way, 2 ms of latency',
    bar: 'at least 5,000',
    valueOf: (side) => overRounds(side, 'throughput', jobsPerSecond),
    written: (rate) => grouped(Math.round(rate)),
    isReached: (rate) => rate >= 5_000,
  },
  {
    name: 'processor time of the coordinator a MiB',
    bar: 'below 1 ms',
    valueOf: coordinatorMsPerMib,
    written: (ms) => `${ms.toFixed(2)} ms`,
    isReached: (ms) => ms < 1,
  },
  {
    name: '64 waiting workers, jobs of 100 ms: busy',
    bar: 'at least 95 %',
    valueOf: (side) =>
      overRounds(side, 'waiting', (load) => busyShare(load, LOADS.waiting.workerCount)),
    written: percent,
    isReached: (share) => share >= 0.95,
  },
  {
    name: '1,000 workers in virtual time: busy',
    bar: 'at least 90 %',
    valueOf: (side) =>
      overRounds(side, 'simulated', (load) => busyShare(load, SIMULATED_LOAD.workerCount)),
    written: percent,
    isReached: (share) => share >= 0.9,
  },
];

export function overheadPage(record: OverheadRecord): string {
  const { commit, date, machine, loadBefore, rounds, sides } = record;
  const last = sides.at(-1);
  return [
    '# Overhead',
    '',
    `\`npm run bench -- overhead\`, commit ${commit}, ${date}, ${machine}, load ${loadBefore} before. ${rounds === 1 ? 'One round' : `Medians of ${rounds} rounds`}; in a round the`,
    'commits follow each other. The production dispatcher and work loops on a real Redis; executors compute nothing or sleep for the time of a',
    'job. Coordinator, Redis, the workers (two processes) and the proxy that adds the latency share the cores of one machine.',
    '',
    ...markdownTable(
      ['measure', 'bar', ...sides.map((side) => side.commit), 'reached'],
      BARS.map(({ name, bar, valueOf, written, isReached }) => {
        const value = last === undefined ? null : valueOf(last);
        const cells = sides.map((side) => {
          const found = valueOf(side);
          return found === null ? '' : written(found);
        });
        return [name, bar, ...cells, value === null ? '' : isReached(value) ? 'yes' : '**no**'];
      }),
    ),
    '',
    '## Processor time of a job',
    '',
    'In milliseconds, by process, and how many jobs a second one core would carry for the coordinator and for Redis: what either allows on a',
    'machine of its own, where workers and proxy have other cores.',
    '',
    ...markdownTable(
      [...['load', 'commit', ...PROCESSES], ...['jobs/s of a coordinator', 'jobs/s of a Redis']],
      (['small', 'throughput', 'large', 'waiting'] as const).flatMap((name) =>
        sides.map((side) => processorRow(name, side)),
      ),
    ),
    '',
    '`small`: 64 KiB each way, no latency; `throughput`: the same with 2 ms; `large`: 2 MiB each way; `waiting`: 4 KiB each way.',
    'A worker waits for nothing else than the queue. The 1,000 workers run in virtual time: production dispatcher and work loops over the',
    `queue in memory, commands of ${SIMULATED_LOAD.latencyMs} ms, jobs of ${SIMULATED_LOAD.jobMs} ms, one outer step of ${grouped(SIMULATED_LOAD.jobsPerStep)} jobs. Code takes no time there, so the figure says what`,
    'the rules (windows, jobs taken ahead, intervals) leave idle, and not whether one coordinator can compute that fast: the table above does.',
    '',
    ...barePart(sides),
  ].join('\n');
}

/** Empty where the bare exchange was not measured. */
function barePart(sides: readonly Side[]): string[] {
  const measured = sides.filter(({ loads }) => (loads['bare'] ?? []).length > 0);
  if (measured.length === 0) return [];
  return [
    '## Bare commands',
    '',
    'The bytes of `throughput` and records as long as its own, with no more commands than carry them, for 32 jobs at a time: no job queue, no',
    'locks, nothing read or judged. It is what client library, server, files and proxy leave possible on this machine.',
    '',
    ...markdownTable(
      ['commit', 'jobs a second', ...PROCESSES],
      measured.map((side) => [
        side.commit,
        grouped(Math.round(overRounds(side, 'bare', jobsPerSecond) ?? 0)),
        ...PROCESSES.map((process) => (processorMsPerJob(side, 'bare', process) ?? 0).toFixed(2)),
      ]),
    ),
    '',
  ];
}

function processorRow(name: LoadName, side: Side): (string | number)[] {
  const ofProcess = PROCESSES.map((process) => processorMsPerJob(side, name, process));
  const written = ofProcess.map((ms) => (ms === null ? '' : ms.toFixed(2)));
  const [ofCoordinator = null, ofRedis = null] = ofProcess;
  const rate = (ms: number | null): string => (ms ? grouped(Math.round(1000 / ms)) : '');
  return [name, side.commit, ...written, rate(ofCoordinator), rate(ofRedis)];
}
