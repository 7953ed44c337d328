/** The charts of a run: losses, also by size of the adgroups, speed, and where the time of outer steps goes. */

import { at } from '../../../shared/base/arrays.js';
import type { SizeMean } from '../../../shared/events/size-losses.js';
import { counted } from '../../../shared/names/counted.js';
import { STEP_PHASES } from '../../../shared/names/event-terms.js';
import type { RunHistory } from '../../record/history/run-history.js';
import type { Point, SizedSteps } from '../../record/history/step-series.js';
import {
  columnsOf,
  type Chart,
  type Figure,
  type Series,
  type Table,
} from '../../reports/document/document.js';
import { durationText, formatNumber } from '../../reports/document/format.js';

/** Rows of a table next to a chart. */
const ROWS_MAX = 60;

export function courseFigures(history: RunHistory): Figure[] {
  const { series } = history;
  return [
    ...lossFigure(history),
    ...sizeFigure(history),
    ...courseFigure('Gain by adaptation', series.adaptationGain, {
      summary: 'Query loss before adaptation minus after it, on the same rows;',
      ...{ y: 'loss', color: 'var(--run-2)', write: (value) => value.toFixed(4), digits: 4 },
    }),
    ...courseFigure('Speed', series.tasksPerSecond, {
      summary: 'Tasks per second by outer step;',
      ...{ y: 'tasks/s', color: 'var(--run-4)', min: 0, digits: 0 },
      write: (value) => String(Math.round(value)),
    }),
    ...courseFigure('Gradient norm', series.gradientNorm, {
      summary: 'Norm of the meta-gradient before it is clipped;',
      ...{ y: 'norm', color: 'var(--run-7)', min: 0, digits: 4 },
      write: (value) => value.toPrecision(3),
    }),
  ];
}

function lossFigure({ series }: RunHistory): Figure[] {
  const { queryLoss, queryLossBefore, supportLoss, validationLoss } = series;
  const lines: Series[] = [
    { name: 'query loss after adaptation', color: 'var(--run-1)', points: queryLoss },
    { name: 'query loss before adaptation', color: 'var(--run-3)', points: queryLossBefore },
    {
      ...{ name: 'support loss before adaptation', color: 'var(--run-5)' },
      ...{ points: supportLoss, look: 'dashed' as const },
    },
    {
      ...{ name: 'validation', color: 'var(--run-2)' },
      ...{ points: validationLoss, look: 'dots' as const },
    },
  ].filter(({ points }) => points.length > 0);
  if (lines.length === 0) return [];
  const last = queryLoss.at(-1);
  const latest =
    last === undefined
      ? ''
      : `; query loss ${last.y.toFixed(4)} after adaptation at step ${last.x}`;
  return [
    {
      ...{ kind: 'figure', title: 'Loss' },
      summary: `Mean of the tasks of an outer step${latest}.`,
      panels: [{ chart: courseChart('loss', lines, 'wide') }],
      table: courseTable(lines, 4, queryLossBefore),
    },
  ];
}

interface Course {
  /** Ends before the last value. */
  readonly summary: string;
  readonly y: string;
  readonly color: string;
  readonly min?: number;
  readonly digits: number;
  readonly write: (value: number) => string;
}

/** Nothing for a record without the values. */
function courseFigure(title: string, points: readonly Point[], course: Course): Figure[] {
  const last = points.at(-1);
  if (last === undefined) return [];
  const { summary, y, color, min, digits, write } = course;
  const lines = [{ name: title.toLowerCase(), color, points }];
  return [
    {
      ...{ kind: 'figure', title },
      summary: `${summary} ${write(last.y)} at step ${last.x}.`,
      panels: [{ chart: courseChart(y, lines, 'half', min) }],
      table: courseTable(lines, digits),
    },
  ];
}

function courseChart(
  y: string,
  series: readonly Series[],
  size: Chart['size'],
  min?: number,
): Chart {
  const xs = series.flatMap(({ points }) => [points[0]?.x ?? 0, points.at(-1)?.x ?? 0]);
  return {
    ...{ look: 'lines', series, size: size ?? 'half' },
    x: { title: 'outer step', min: Math.min(...xs), max: Math.max(...xs) },
    y: { title: y, ...(min === undefined ? {} : { min }) },
  };
}

/** @param sparse points whose steps are shown, where there are some: a few among those of the lines */
function courseTable(
  lines: readonly Series[],
  digits: number,
  sparse: readonly Point[] = [],
): Table {
  const from = sparse.length > 1 ? [sparse] : lines.map(({ points }) => points);
  const steps = [...new Set(from.flatMap((points) => points.map(({ x }) => x)))];
  const shown = thinned(
    steps.sort((a, b) => a - b),
    ROWS_MAX,
  );
  const byLine = lines.map(({ points }) => new Map(points.map(({ x, y }) => [x, y])));
  return {
    columns: columnsOf('outer step', ...lines.map(({ name }) => name)),
    rows: shown.map((step) => [
      String(step),
      ...byLine.map((values) => values.get(step)?.toFixed(digits) ?? ''),
    ]),
  };
}

/** Nothing for a record without times. */
export function timeFigure({ timedSteps }: RunHistory): Figure[] {
  const last = timedSteps.at(-1);
  const phases = STEP_PHASES.filter((phase) =>
    timedSteps.some(({ meanMsByPhase }) => meanMsByPhase.has(phase)),
  );
  if (last === undefined || phases.length === 0) return [];
  const series = phases.map((name) => ({
    ...{ name, color: `var(--phase-${STEP_PHASES.indexOf(name)})` },
    points: timedSteps.map(({ meanMsByPhase }, x) => ({ x, y: meanMsByPhase.get(name) ?? 0 })),
  }));
  const [longest] = [...last.meanMsByPhase].sort(([, a], [, b]) => b - a);
  const longestText =
    longest === undefined ? '' : `; the longest is ${longest[0]}, ${durationText(longest[1])}`;
  const categories = timedSteps.map(({ lastOuterStep }) => String(lastOuterStep));
  return [
    {
      ...{ kind: 'figure', title: 'Time of an outer step' },
      summary: `Milliseconds by phase${longestText}. Fetching, computing and uploading are means over the workers, and overlap.`,
      panels: [
        {
          chart: {
            ...{ look: 'bars', series, size: 'wide' },
            x: { title: 'outer step', categories },
            y: { title: 'ms', min: 0 },
          },
        },
      ],
      table: {
        columns: columnsOf('outer steps', ...phases),
        rows: thinned(timedSteps, ROWS_MAX).map((steps) => [
          spanText(steps),
          ...phases.map((phase) => steps.meanMsByPhase.get(phase)?.toFixed(1) ?? ''),
        ]),
      },
    },
  ];
}

function spanText(steps: {
  readonly firstOuterStep: number;
  readonly lastOuterStep: number;
}): string {
  const { firstOuterStep: first, lastOuterStep: last } = steps;
  return first === last ? `${last}` : `${first} to ${last}`;
}

/** The losses of each size bucket. */
const LOSSES = {
  'query before': ({ queryLossBefore }: SizeMean) => queryLossBefore,
  'query after': ({ queryLoss }: SizeMean) => queryLoss,
  gain: ({ gain }: SizeMean) => gain,
  'support before': ({ supportLoss }: SizeMean) => supportLoss,
} as const;

/**
 * The losses by size of the adgroups: a chart for each bucket, on one scale. Nothing for a record without such losses,
 * or with one bucket, whose losses are those of all adgroups.
 */
export function sizeFigure({ sizedSteps }: RunHistory): Figure[] {
  const last = sizedSteps.at(-1);
  const all = sizedSteps.flatMap(({ means }) => means);
  const hasBefore = all.some(({ queryLossBefore }) => queryLossBefore !== null);
  const buckets = (last?.means ?? []).map((_, bucket) => ({
    size: at(at(sizedSteps, 0).means, bucket).size,
    taskCount: sizedSteps.reduce((sum, { means }) => sum + at(means, bucket).taskCount, 0),
    series: bucketSeries(sizedSteps, bucket, hasBefore),
  }));
  const shown = buckets.filter(({ series }) => series.some(({ points }) => points.length > 0));
  if (last === undefined || last.means.length < 2 || shown.length === 0) return [];
  const points = shown.flatMap(({ series }) => series.flatMap((each) => each.points));
  const x = { title: '', ...rangeOf(points.map((point) => point.x)) };
  const y = {
    title: '',
    ...rangeOf(
      points.map((point) => point.y),
      0.06,
    ),
  };
  const latest = last.means.flatMap(({ size, queryLoss }) =>
    queryLoss === null ? [] : [`${queryLoss.toFixed(4)} at ${size}`],
  );
  return [
    {
      ...{ kind: 'figure', title: 'Loss by size of the adgroups' },
      summary: `Means over spans of outer steps, by support rows of the adgroup, on one scale. Latest query loss after adaptation: ${latest.join(', ')}.`,
      panels: shown.map(({ size, taskCount, series }) => ({
        title: `${size} support rows`,
        note: counted(taskCount, 'task'),
        chart: { look: 'lines', size: 'small', x, y, series },
      })),
      table: sizeTable(sizedSteps, all),
    },
  ];
}

function bucketSeries(steps: readonly SizedSteps[], bucket: number, hasBefore: boolean): Series[] {
  const pointsOf = (loss: keyof typeof LOSSES): Point[] =>
    steps.flatMap(({ lastOuterStep: x, means }) => {
      const y = LOSSES[loss](at(means, bucket));
      return y === null ? [] : [{ x, y }];
    });
  const look = 'dashed' as const;
  return [
    hasBefore
      ? {
          ...{ name: 'query loss before adaptation', color: 'var(--run-3)', look },
          points: pointsOf('query before'),
        }
      : {
          ...{ name: 'support loss before adaptation', color: 'var(--run-5)', look },
          points: pointsOf('support before'),
        },
    {
      ...{ name: 'query loss after adaptation', color: 'var(--run-1)' },
      points: pointsOf('query after'),
    },
  ];
}

/** @param marginShare the room at either end, relative to the extent of the values */
function rangeOf(values: readonly number[], marginShare = 0): { min: number; max: number } {
  const [min, max] = [Math.min(...values), Math.max(...values)];
  // A single value stands in the middle.
  const margin = min === max ? 1 : (max - min) * marginShare;
  return { min: min - margin, max: max + margin };
}

/** Losses without a value in any bucket are left out. */
function sizeTable(steps: readonly SizedSteps[], all: readonly SizeMean[]): Table {
  const sizes = at(steps, 0).means.map(({ size }) => size);
  const shown = Object.entries(LOSSES).filter(([, lossOf]) =>
    all.some((mean) => lossOf(mean) !== null),
  );
  const titles = sizes.flatMap((size) =>
    ['tasks', ...shown.map(([name]) => name)].map((name) => `${size}: ${name}`),
  );
  return {
    columns: ['outer steps', ...titles].map((title) => ({ title })),
    rows: steps.map((span) => [
      spanText(span),
      ...span.means.flatMap((mean) => [
        String(mean.taskCount),
        ...shown.map(([, lossOf]) => formatNumber(lossOf(mean), 4).replace(/^-$/, '')),
      ]),
    ]),
  };
}

/** Every n-th of the items, and the last one, so that at most `countMax` are left. */
function thinned<Item>(items: readonly Item[], countMax: number): readonly Item[] {
  const every = Math.ceil(items.length / countMax);
  return items.filter((_, index) => index % every === 0 || index === items.length - 1);
}
