/** Formats the traffic of several runs as Markdown and as a few numbers. */

import { grouped, markdownTable, type BenchHeader } from './bench-header.js';
import type { StepTraffic } from './traffic-meter.js';
import type { RunTraffic } from './traffic-run.js';

interface LineFit {
  readonly slope: number;
  readonly intercept: number;
  /** Share of the variance that the line explains. */
  readonly rSquared: number;
}

/** Least squares of y on x over `points` of [x, y]. */
function fitLine(points: readonly (readonly [number, number])[]): LineFit {
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const xMean = mean(points.map(([x]) => x));
  const yMean = mean(points.map(([, y]) => y));
  const xx = mean(points.map(([x]) => (x - xMean) ** 2));
  const xy = mean(points.map(([x, y]) => (x - xMean) * (y - yMean)));
  const yy = mean(points.map(([, y]) => (y - yMean) ** 2));
  return { slope: xy / xx, intercept: yMean - (xy / xx) * xMean, rSquared: xy ** 2 / (xx * yy) };
}

function redisByteCount(step: StepTraffic): number {
  return step.redisInputByteCount + step.redisOutputByteCount;
}

/** Steps after the first. In the first, every connection also loads the queue's scripts. */
function usualSteps(run: RunTraffic): readonly StepTraffic[] {
  return run.steps.slice(1);
}

/** Redis bytes on rows touched, over the usual steps of a run. */
export function rowBytesFit(run: RunTraffic): LineFit {
  return fitLine(
    usualSteps(run).map((step): [number, number] => [step.rowsTouched, redisByteCount(step)]),
  );
}

/**
 * The bytes per job of a step that remain without dense variables (in once, out to each worker),
 * their gradients (in and out for each job) and rows (as pack and as gradient, in and out).
 */
function restByteCountPerJob(run: RunTraffic, step: StepTraffic): number {
  const { jobCount, denseByteCount, rowsTouched } = step;
  const denseTransferCount = 1 + Math.min(run.workerCount, jobCount) + 2 * jobCount;
  const known = denseTransferCount * denseByteCount + 4 * run.rowByteCount * rowsTouched;
  return (redisByteCount(step) - known) / jobCount;
}

/**
 * The equalities that two runs with the same touched rows must satisfy, and how far Redis' totals
 * differ.
 */
export function compared(single: RunTraffic, doubled: RunTraffic): Record<string, unknown> {
  const same = (value: (step: StepTraffic) => number): boolean =>
    single.steps.length === doubled.steps.length &&
    single.steps.every((step, index) => {
      const other = doubled.steps[index];
      return other !== undefined && value(other) === value(step);
    });
  const total = (run: RunTraffic): number =>
    run.steps.reduce((sum, step) => sum + redisByteCount(step), 0);
  return {
    sameRowsTouchedInEveryStep: same((step) => step.rowsTouched),
    sameDenseBytesInEveryStep: same((step) => step.denseByteCount),
    sameRowPackBytesInEveryStep: same((step) => step.rowPackByteCount),
    sameOutputBytesInEveryStep: same((step) => step.outputByteCount),
    sameJobRecordBytesInEveryStep: same((step) => step.jobRecordByteCount),
    sameQueryLossInEveryStep: single.queryLosses.every(
      (loss, index) => loss === doubled.queryLosses[index],
    ),
    redisBytesDoubledOverSingle: total(doubled) / total(single),
  };
}

export function meanStep(run: RunTraffic): StepTraffic {
  const steps = usualSteps(run);
  const mean = (value: (step: StepTraffic) => number): number =>
    Math.round(steps.reduce((sum, step) => sum + value(step), 0) / steps.length);
  return {
    jobCount: mean((step) => step.jobCount),
    rowsTouched: mean((step) => step.rowsTouched),
    denseByteCount: mean((step) => step.denseByteCount),
    rowPackByteCount: mean((step) => step.rowPackByteCount),
    outputByteCount: mean((step) => step.outputByteCount),
    jobRecordByteCount: mean((step) => step.jobRecordByteCount),
    resultRecordByteCount: mean((step) => step.resultRecordByteCount),
    redisInputByteCount: mean((step) => step.redisInputByteCount),
    redisOutputByteCount: mean((step) => step.redisOutputByteCount),
  };
}

const COLUMNS = [
  'run',
  'user table rows',
  'tasks per step',
  'steps',
  'rows touched',
  'dense bytes',
  'row pack bytes',
  'output bytes',
  'job record bytes',
  'result record bytes',
  'bytes into Redis',
  'bytes out of Redis',
  'other bytes per job',
];

/** @param runs the first two touch the same rows, of a table and of one twice as large. */
export function trafficPage(header: BenchHeader, runs: readonly RunTraffic[]): string {
  const [single, doubled] = runs;
  if (single === undefined || doubled === undefined) throw new Error('two runs are needed');
  return `${trafficTable(header, runs)}\n${trafficVerdict(single, doubled)}`;
}

function trafficTable(header: BenchHeader, runs: readonly RunTraffic[]): string {
  const rows = runs.map((run) => {
    const step = meanStep(run);
    return [
      run.name,
      grouped(run.tableRowCount),
      run.tasksPerOuterStep,
      run.steps.length,
      grouped(step.rowsTouched),
      grouped(step.denseByteCount),
      grouped(step.rowPackByteCount),
      grouped(step.outputByteCount),
      grouped(step.jobRecordByteCount),
      grouped(step.resultRecordByteCount),
      grouped(step.redisInputByteCount),
      grouped(step.redisOutputByteCount),
      grouped(Math.round(restByteCountPerJob(run, step))),
    ];
  });
  const [first] = runs;
  return [
    '# Traffic through Redis by outer step',
    '',
    `Commit ${header.commit}, ${header.date}; ${header.machine}; load before ${header.loadBefore}.`,
    `${grouped(first?.adgroupCount ?? 0)} adgroups of a synthetic log, ${first?.workerCount ?? 0} worker processes, an embedded Redis.`,
    'Byte counts are means per outer step. They leave out the first outer step, in which connections load the',
    "queue's scripts. Inputs are dense variables, row packs and job records; outputs are the jobs' outputs and result",
    'records. The bytes into and out of Redis are its own counts (INFO), for all workers and the whole queue. The',
    "other bytes are the part of these counts that is not dense variables, their gradients or rows: the queue's",
    'records, events and polling.',
    '',
    ...markdownTable(COLUMNS, rows),
    '',
  ].join('\n');
}

/** States the two claims in words, with the supporting numbers. */
function trafficVerdict(single: RunTraffic, doubled: RunTraffic): string {
  const fit = rowBytesFit(single);
  const { rowByteCount } = single;
  const facts = compared(single, doubled);
  const ratio = Number(facts['redisBytesDoubledOverSingle']);
  const unequal = Object.entries(facts).filter(([, value]) => value === false);
  return [
    `With twice the table and the same ids, ${
      unequal.length === 0
        ? 'every outer step has the same rows, the same loss and the same bytes of every kind'
        : `these claims fail: ${unequal.map(([name]) => name).join(', ')}`
    }. Redis' own totals differ by ${((ratio - 1) * 100).toFixed(2)} %, because polling and compute times differ between runs.`,
    '',
    `A linear fit of Redis bytes to rows touched, over the steps of the first run, gives ${fit.slope.toFixed(2)} bytes per row plus`,
    `${grouped(Math.round(fit.intercept))} bytes per step (R² ${fit.rSquared.toFixed(6)}). A row has ${rowByteCount} bytes and is transferred four times, as part of a pack`,
    `and as a gradient, each into and out of Redis: ${4 * rowByteCount} bytes.`,
    '',
  ].join('\n');
}
