/** The page of one run: its state, its course, its workers, and what it has written. */

import { sentenceOf } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import { STEP_PHASES } from '../../shared/names/event-terms.js';
import { isGone, meanIn, sizeName, type RunHistory } from '../record/run-history.js';
import { isUnderWay, type RunState, type RunStatus } from '../record/run-status.js';
import {
  absence,
  code,
  columnsOf,
  factsBlock,
  figure,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Chart,
  type Fact,
  type Figure,
  type Form,
  type Piece,
  type Series,
  type Table,
  type Text,
  type Tone,
} from '../reports/document/document.js';
import { durationText, formatCount, timeText } from '../reports/document/format.js';
import { stateBadge } from '../reports/run-documents.js';
import type { Page } from './page.js';

type StepSpan = RunHistory['sizes']['spans'][number];

type WorkerCourse = RunHistory['workers'][number];

interface ShownRun {
  readonly status: RunStatus;
  readonly history: RunHistory;
  /** Null before the first checkpoint. */
  readonly settings: ReadonlyMap<string, string> | null;
  /** The form that controls the run; null where it may not be controlled. */
  readonly control?: Form | null;
  /** Reports that lie in the output. */
  readonly links?: readonly Text[];
}

export function runPage({ status, history, settings, control = null, links }: ShownRun): Page {
  const { state } = status;
  const heading = status.run ?? status.output;
  const figures = courseFigures(history);
  const course: Block =
    figures.length === 0 ? absence('No outer step has ended yet.') : { kind: 'figures', figures };
  return {
    ...{ title: `${heading}, ${state}`, heading, crumbs: status.output, place: '/runs' },
    announced: ['state'],
    parts: {
      state: stateBlocks(status),
      orders: control === null ? [] : [control],
      facts: [...progressBlocks(status), factsBlock(...factsOf(status, history))],
      course: [section('Course', '', [course])],
      time: [section('Where the time goes', '', timeFigures(history))],
      workers: [section('Workers', '', [workersBlock(history, state)])],
      outcomes: [section('Refusals and repeats', '', [outcomesBlock(status, history)])],
      saved: [section('Checkpoints and reports', '', savedBlocks(history, links))],
      config: [section('Config', '', [settingsBlock(settings)])],
      log: [section('Log', 'The last events, in universal time.', logBlocks(history))],
    },
  };
}

const STATE_WORDS: Readonly<Record<RunState, string>> = {
  running: 'Running normally.',
  'waiting for workers': 'Jobs are queued, and no worker has finished one since the wait began.',
  stalled: 'Running, but no progress recently.',
  finished: 'The last call ended without a failure.',
  failed: 'The last call ended with a failure.',
  interrupted: 'Stopped. It can be resumed.',
  lost: 'The process exited without reporting. The run can be resumed.',
};

function stateBlocks({ state, ending, call }: RunStatus): Block[] {
  const caller =
    call === null
      ? ''
      : ` Call ${call.name}, process ${call.process.pid} on ${call.process.host}, since ${timeText(call.sinceMs)} UTC.`;
  const reason = ending?.kind === 'failed' ? `${ending.failure}: ${ending.reason}` : null;
  return [
    textBlock([stateBadge(state), ` ${STATE_WORDS[state]}${caller}`]),
    ...(reason === null ? [] : [textBlock(reason, 'reason')]),
  ];
}

function progressBlocks({ training }: RunStatus): Block[] {
  if (training === null || training.outerSteps === 0) return [];
  const { outerStep: done, outerSteps: total } = training;
  return [{ kind: 'progress', label: 'Outer steps', done, total }];
}

function factsOf(status: RunStatus, history: RunHistory): Fact[] {
  const { training, stage, leftMs, outerStepMs, silentMs, state, validation } = status;
  const { queryLoss = null, supportLoss = null, tasksPerSecond = null } = training ?? {};
  const adaptation = training?.adaptation ?? null;
  const isActive = isUnderWay(state);
  const { workers } = history;
  const present = workers.filter((worker) => !isGone(worker)).length;
  const lastEvent = timeText(status.lastEventMs ?? 0);
  const facts: (Fact | null)[] = [
    training && [
      formatCount(training.outerStep),
      `of ${formatCount(training.outerSteps)} outer steps`,
    ],
    stage !== null && isActive
      ? [
          stage.total === null ? formatCount(stage.done) : `${stage.done}/${stage.total}`,
          stage.stage,
        ]
      : null,
    leftMs === null ? null : [durationText(leftMs), 'left at this pace'],
    outerStepMs === null ? null : [durationText(outerStepMs), 'an outer step'],
    queryLoss === null ? null : [queryLoss.toFixed(4), 'query loss after adaptation'],
    adaptation && [
      adaptation.queryLossBefore.toFixed(4),
      'query loss before adaptation',
      `${adaptation.queryLossAfter.toFixed(4)} after, in step ${formatCount(adaptation.outerStep)}`,
    ],
    adaptation !== null || supportLoss === null
      ? null
      : [supportLoss.toFixed(4), 'support loss before adaptation'],
    tasksPerSecond === null ? null : [formatCount(tasksPerSecond), 'tasks/s'],
    validation && [
      validation.bestLoss.toFixed(4),
      'best validation loss',
      `step ${validation.bestOuterStep}`,
    ],
    isActive && workers.length > 0 ? [formatCount(present), 'workers in the log'] : null,
    isActive
      ? [durationText(silentMs), 'since the last event']
      : [lastEvent.slice(0, 10), 'last event', `${lastEvent.slice(11)} UTC`],
  ];
  return facts.filter((fact) => fact !== null);
}

/** Rows of a table next to a chart. */
const ROWS_MAX = 60;

function courseFigures(history: RunHistory): Figure[] {
  const { course, validation } = history;
  const losses = lines([
    {
      name: 'query loss after adaptation',
      color: 'var(--run-1)',
      points: course.points('queryLoss'),
    },
    {
      ...{ name: 'query loss before adaptation', color: 'var(--run-3)' },
      points: course.points('queryLossBefore'),
    },
    {
      ...{ name: 'support loss before adaptation', color: 'var(--run-5)', look: 'dashed' },
      points: course.points('supportLoss'),
    },
    {
      ...{ name: 'validation', color: 'var(--run-2)', look: 'dots' },
      points: validation.points('loss'),
    },
  ]);
  const single = (name: string, title: string, color: string): Figure[] => {
    const series = lines([{ name: title.toLowerCase(), color, points: course.points(name) }]);
    return courseFigure(title, series, 'half', name === 'adaptationGain' ? undefined : 0);
  };
  return [
    ...courseFigure('Loss', losses, 'wide'),
    ...sizeFigures(history),
    ...single('adaptationGain', 'Gain by adaptation', 'var(--run-2)'),
    ...single('tasksPerSecond', 'Speed in tasks per second', 'var(--run-4)'),
    ...single('gradientNorm', 'Gradient norm', 'var(--run-7)'),
  ];
}

function lines(series: readonly Series[]): Series[] {
  return series.filter(({ points }) => points.length > 0);
}

function courseFigure(
  title: string,
  series: readonly Series[],
  size: NonNullable<Chart['size']>,
  min?: number,
): Figure[] {
  if (series.length === 0) return [];
  const latest = series.map(({ name, points }) => {
    const last = points.at(-1);
    return last === undefined ? name : `${name} ${numberText(last.y)} at step ${last.x}`;
  });
  const steps = series.flatMap(({ points }) => points.map(({ x }) => x));
  const chart: Chart = {
    ...{ look: 'lines', series, size },
    x: { title: 'outer step', min: Math.min(...steps), max: Math.max(...steps) },
    y: { title: '', ...(min === undefined ? {} : { min }) },
  };
  return [figure(title, `Means of outer steps: ${latest.join(', ')}.`, chart, courseTable(series))];
}

function courseTable(series: readonly Series[]): Table {
  const byLine = series.map(({ points }) => new Map(points.map(({ x, y }) => [x, y])));
  const steps = [...new Set(byLine.flatMap((values) => [...values.keys()]))].sort((a, b) => a - b);
  return {
    columns: columnsOf('outer step', ...series.map(({ name }) => name)),
    rows: thinOut(steps).map((step) => [
      String(step),
      ...byLine.map((values) => {
        const value = values.get(step);
        return value === undefined ? '' : numberText(value);
      }),
    ]),
  };
}

function numberText(value: number): string {
  return Math.abs(value) >= 100 ? formatCount(value) : value.toFixed(4);
}

function timeFigures({ times }: RunHistory): Figure[] {
  const { spans } = times;
  const phases = STEP_PHASES.filter((phase) => spans.some(({ sums }) => sums.has(phase)));
  if (phases.length === 0) return [];
  const series = phases.map((name) => ({
    ...{ name, color: `var(--phase-${STEP_PHASES.indexOf(name)})` },
    points: spans.map((span, x) => ({ x, y: meanIn(span, name) ?? 0 })),
  }));
  const chart: Chart = {
    ...{ look: 'bars', series, size: 'wide' },
    x: { title: 'outer step', categories: spans.map(({ lastOuterStep }) => String(lastOuterStep)) },
    y: { title: 'ms', min: 0 },
  };
  const summary =
    'Milliseconds by phase. Fetching, computing and uploading are means over the workers, and overlap.';
  const table = {
    columns: columnsOf('outer steps', ...phases),
    rows: thinOut(spans).map((span) => [
      spanText(span),
      ...phases.map((phase) => meanIn(span, phase)?.toFixed(1) ?? ''),
    ]),
  };
  return [figure('Time of an outer step', summary, chart, table)];
}

function spanText({ firstOuterStep: first, lastOuterStep: last }: StepSpan): string {
  return first === last ? `${last}` : `${first} to ${last}`;
}

/**
 * The losses by size of the adgroups: a chart for each bucket, on one scale. Nothing for a record without such losses,
 * or with one bucket, whose losses are those of all adgroups.
 */
function sizeFigures({ sizes, sizeNames }: RunHistory): Figure[] {
  const [last] = sizes.spans.slice(-1);
  const before = sizeNames.some(
    (size) => sizes.points(sizeName(size, 'queryLossBefore')).length > 0,
  )
    ? ({ value: 'queryLossBefore', name: 'query loss', color: 'var(--run-3)' } as const)
    : ({ value: 'supportLoss', name: 'support loss', color: 'var(--run-5)' } as const);
  const buckets = sizeNames.map((size) => ({
    size,
    taskCount: sizes.spans.reduce((sum, span) => sum + tasksIn(span, size), 0),
    series: lines([
      {
        ...{ name: `${before.name} before adaptation`, color: before.color, look: 'dashed' },
        points: sizes.points(sizeName(size, before.value)),
      },
      {
        ...{ name: 'query loss after adaptation', color: 'var(--run-1)' },
        points: sizes.points(sizeName(size, 'queryLoss')),
      },
    ]),
  }));
  const shown = buckets.filter(({ series }) => series.length > 0);
  if (last === undefined || sizeNames.length < 2 || shown.length === 0) return [];
  const points = shown.flatMap(({ series }) => series.flatMap((each) => each.points));
  const x = { title: '', ...rangeOf(points.map((point) => point.x)) };
  const y = { title: '', ...rangeOf(points.map((point) => point.y)) };
  const latest = sizeNames.flatMap((size) => {
    const loss = meanIn(last, sizeName(size, 'queryLoss'));
    return loss === null ? [] : [`${loss.toFixed(4)} at ${size}`];
  });
  return [
    {
      ...{ kind: 'figure', title: 'Loss by size of the adgroups' },
      summary: `Means over spans of outer steps, by support rows of the adgroup, on one scale. Latest query loss after adaptation: ${latest.join(', ')}.`,
      panels: shown.map(({ size, taskCount, series }) => ({
        title: `${size} support rows`,
        note: counted(taskCount, 'task'),
        chart: { look: 'lines', size: 'small', x, y, series },
      })),
      table: sizeTable(sizes.spans, sizeNames),
    },
  ];
}

function tasksIn({ sums }: StepSpan, size: string): number {
  return sums.get(sizeName(size, 'tasks'))?.[0] ?? 0;
}

/** The range of an axis; a single value stands in the middle. */
function rangeOf(values: readonly number[]): { min: number; max: number } {
  const [min, max] = [Math.min(...values), Math.max(...values)];
  const margin = min === max ? 1 : (max - min) * 0.06;
  return { min: min - margin, max: max + margin };
}

const SIZE_COLUMNS = [
  ['query before', 'queryLossBefore'],
  ['query after', 'queryLoss'],
  ['gain', 'gain'],
  ['support before', 'supportLoss'],
] as const;

/** Losses without a value in any bucket are left out. */
function sizeTable(spans: readonly StepSpan[], sizeNames: readonly string[]): Table {
  const shown = SIZE_COLUMNS.filter(([, value]) =>
    spans.some((span) => sizeNames.some((size) => meanIn(span, sizeName(size, value)) !== null)),
  );
  const titles = sizeNames.flatMap((size) =>
    ['tasks', ...shown.map(([title]) => title)].map((title) => `${size}: ${title}`),
  );
  return {
    columns: ['outer steps', ...titles].map((title) => ({ title })),
    rows: spans.map((span) => [
      spanText(span),
      ...sizeNames.flatMap((size) => [
        String(tasksIn(span, size)),
        ...shown.map(([, value]) => meanIn(span, sizeName(size, value))?.toFixed(4) ?? ''),
      ]),
    ]),
  };
}

/** Every n-th of the items, and the last one. */
function thinOut<Item>(items: readonly Item[]): readonly Item[] {
  const every = Math.ceil(items.length / ROWS_MAX);
  return items.filter((_, index) => index % every === 0 || index === items.length - 1);
}

/** Workers that are gone, the last ones. */
const GONE_MAX = 20;
const PRESENT_MAX = 200;
const BYTES_PER_MIB = 1_024 * 1_024;

const WORKER_TONES: Readonly<Record<WorkerCourse['state'], Tone>> = {
  starts: 'wait',
  waits: 'good',
  computes: 'live',
  rests: 'wait',
  stopped: 'plain',
  exited: 'bad',
};

function workersBlock({ workers }: RunHistory, runState: RunState): Block {
  const present = workers.filter((worker) => !isGone(worker)).slice(0, PRESENT_MAX);
  const gone = workers.filter(isGone).sort((a, b) => b.lastEventMs - a.lastEventMs);
  const shown = [...present, ...gone.slice(0, GONE_MAX)];
  if (shown.length === 0)
    return absence(
      'The record names no worker. It lists workers that the command itself has started.',
    );
  return tableBlock('Workers', {
    columns: columnsOf(
      ...['<worker', '<state', '<device', 'memory', '~current job', 'last job took'],
      ...['refused', '<last event, UTC'],
    ),
    rows: shown.map((worker) => [
      worker.worker,
      workerState(worker, runState),
      worker.device ?? '-',
      worker.residentByteCount === null
        ? '-'
        : `${Math.round(worker.residentByteCount / BYTES_PER_MIB)} MiB`,
      worker.jobId ?? '-',
      worker.lastComputeMs === null ? '-' : durationText(worker.lastComputeMs),
      String(worker.refusedResultCount),
      timeText(worker.lastEventMs).slice(11),
    ]),
  });
}

/** A worker that was computing when its run ended or was lost has no known state. */
function workerState(worker: WorkerCourse, runState: RunState): Piece {
  const { state, end } = worker;
  if (!isUnderWay(runState) && !isGone(worker)) return { text: 'unknown', badge: 'plain' };
  return { text: `${state}${end === null ? '' : `, ${end}`}`, badge: WORKER_TONES[state] };
}

function outcomesBlock(
  { refusedResultCounts }: RunStatus,
  { retriedJobCounts }: RunHistory,
): Block {
  const rows = [
    ...Object.entries(refusedResultCounts).map(([why, count]) => [
      `results refused: ${why}`,
      count,
    ]),
    ...Object.entries(retriedJobCounts).map(([why, count]) => [`jobs sent again: ${why}`, count]),
  ];
  if (rows.length === 0) return absence('No result was refused, and no job was sent again.');
  return tableBlock('Refusals and repeats by reason', {
    columns: columnsOf('<what happened', 'count'),
    rows: rows.map((cells) => cells.map(String)),
  });
}

function savedBlocks(
  { checkpoints, reports }: RunHistory,
  links: readonly Text[] = reports,
): Block[] {
  const table = tableBlock('Checkpoints', {
    columns: columnsOf('<outer step', '<saved, UTC', '~digest of the meta-parameters'),
    rows: checkpoints
      .map(({ outerStep, digest, epochMs }) => [
        ...[String(outerStep), timeText(epochMs), code(digest)],
      ])
      .reverse(),
  });
  return [
    checkpoints.length === 0 ? absence('No checkpoint yet.') : table,
    ...(links.length === 0 ? [] : [section('Reports', '', [{ kind: 'list', items: links }])]),
  ];
}

function settingsBlock(settings: ReadonlyMap<string, string> | null): Block {
  if (settings === null) return absence('Known from the first checkpoint on.');
  const table = { columns: columnsOf('<setting', '~value'), rows: [...settings] };
  const summary = `All ${settings.size} settings`;
  return { kind: 'details', summary, blocks: [tableBlock('Settings', table)] };
}

function logBlocks({ log, unknownCount }: RunHistory): Block[] {
  if (log.length === 0) return [absence('No events yet.')];
  const items = log.map((event): Text => {
    const { level, text } = sentenceOf(event);
    const by = event.worker === undefined ? '' : `${event.worker}: `;
    return [
      { text: timeText(event.epochMs).slice(11), style: 'time' },
      ...(level === 'warning' ? [{ text: 'warning', style: 'warning' } as const, ' '] : []),
      by + text,
    ];
  });
  const unknown = `${unknownCount} lines of another version are not shown.`;
  return [
    { kind: 'list', label: 'The last events', items: items.reverse() },
    ...(unknownCount === 0 ? [] : [absence(unknown)]),
  ];
}
