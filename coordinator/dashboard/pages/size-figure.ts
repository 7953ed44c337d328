/** The drawing of a run's losses by size of the adgroups: one for each bucket, on one scale. */

import { at } from '../../../shared/base/arrays.js';
import type { RunHistory } from '../../record/history/run-history.js';
import type { SizedSteps } from '../../record/history/step-series.js';
import type { SizeMean } from '../../../shared/events/size-losses.js';
import { escapeHtml } from '../../reports/html-text.js';
import { smallChart, type DrawnLine } from '../../reports/page/course-charts.js';
import { legendHtml } from '../../reports/page/page-frame.js';
import { figure } from './elements.js';
import { counted } from '../../../shared/names/counted.js';

const AFTER = { name: 'query loss after adaptation', colour: 'var(--run-1)' };
const BEFORE = { name: 'query loss before adaptation (dashed)', colour: 'var(--run-3)' };
/** Stands in for the query loss in records that do not have it. */
const SUPPORT = { name: 'support loss before adaptation (dashed)', colour: 'var(--run-5)' };

interface BucketCourse {
  readonly size: string;
  readonly taskCount: number;
  readonly lines: readonly DrawnLine[];
}

/** Empty for a record without such losses, or with one bucket, whose losses are those of all adgroups. */
export function sizeFigure({ sizedSteps }: RunHistory): string {
  const last = sizedSteps.at(-1);
  const hasBefore = sizedSteps.some(({ means }) =>
    means.some(({ queryLossBefore }) => queryLossBefore !== null),
  );
  const courses = (last?.means ?? []).map((_, bucket) => courseOf(sizedSteps, bucket, hasBefore));
  const shown = courses.filter(({ lines }) => lines.some(({ points }) => points.length > 0));
  if (last === undefined || last.means.length < 2 || shown.length === 0) return '';
  const points = shown.flatMap(({ lines }) => lines.flatMap((line) => line.points));
  const xRange = rangeOf(
    points.map(({ x }) => x),
    0,
  );
  const yRange = rangeOf(
    points.map(({ y }) => y),
    0.06,
  );
  const drawings = shown.map(({ size, taskCount, lines }) => {
    const title = `${size} support rows`;
    const chart = smallChart({ lines, xRange, yRange });
    const label = `aria-label="${escapeHtml(`Losses of adgroups with ${title}`)}"`;
    return (
      `<div><h3>${escapeHtml(title)} <span>${counted(taskCount, 'task')}</span></h3>` +
      `${chart.replace('<svg role="img"', `<svg ${label} role="img"`)}</div>`
    );
  });
  return figure({
    title: 'Loss by size of the adgroups',
    summary: `Means over spans of outer steps, by support rows of the adgroup, on one scale. ${lastText(last)}`,
    drawing: `<div class="multiples">${drawings.join('')}</div>`,
    legend: legendHtml([AFTER, hasBefore ? BEFORE : SUPPORT]),
    isWide: true,
    table: tableOf(sizedSteps),
  });
}

function courseOf(steps: readonly SizedSteps[], bucket: number, hasBefore: boolean): BucketCourse {
  const pointsOf = (lossOf: (mean: SizeMean) => number | null) =>
    steps.flatMap(({ lastOuterStep: x, means }) => {
      const y = lossOf(at(means, bucket));
      return y === null ? [] : [{ x, y }];
    });
  return {
    size: at(at(steps, 0).means, bucket).size,
    taskCount: steps.reduce((sum, { means }) => sum + at(means, bucket).taskCount, 0),
    lines: [
      hasBefore
        ? { ...BEFORE, points: pointsOf(({ queryLossBefore }) => queryLossBefore), isDashed: true }
        : { ...SUPPORT, points: pointsOf(({ supportLoss }) => supportLoss), isDashed: true },
      { ...AFTER, points: pointsOf(({ queryLoss }) => queryLoss) },
    ],
  };
}

/** @param marginShare the room at either end, as a share of what lies between. */
function rangeOf(values: readonly number[], marginShare: number): { min: number; max: number } {
  const [min, max] = [Math.min(...values), Math.max(...values)];
  // One value alone stands in the middle.
  const margin = min === max ? 1 : (max - min) * marginShare;
  return { min: min - margin, max: max + margin };
}

function lastText({ means }: SizedSteps): string {
  const texts = means.flatMap(({ size, queryLoss }) =>
    queryLoss === null ? [] : [`${queryLoss.toFixed(4)} at ${size}`],
  );
  return `Query loss after adaptation, lately: ${texts.join(', ')}.`;
}

/** The columns of each bucket. */
const COLUMNS: readonly {
  readonly name: string;
  readonly lossOf: (mean: SizeMean) => number | null;
}[] = [
  { name: 'query before', lossOf: ({ queryLossBefore }) => queryLossBefore },
  { name: 'query after', lossOf: ({ queryLoss }) => queryLoss },
  { name: 'gain', lossOf: ({ gain }) => gain },
  { name: 'support before', lossOf: ({ supportLoss }) => supportLoss },
];

/** Columns without a value in any bucket are left out. */
function tableOf(steps: readonly SizedSteps[]) {
  const sizes = at(steps, 0).means.map(({ size }) => size);
  const all = steps.flatMap(({ means }) => means);
  const shown = COLUMNS.filter(({ lossOf }) => all.some((mean) => lossOf(mean) !== null));
  return {
    columns: [
      ['outer steps'] as const,
      ...sizes.flatMap((size) =>
        ['tasks', ...shown.map(({ name }) => name)].map((name) => [`${size}: ${name}`] as const),
      ),
    ],
    rows: steps.map(({ firstOuterStep, lastOuterStep, means }) => [
      firstOuterStep === lastOuterStep
        ? `${lastOuterStep}`
        : `${firstOuterStep} to ${lastOuterStep}`,
      ...means.flatMap((mean) => [
        String(mean.taskCount),
        ...shown.map(({ lossOf }) => lossOf(mean)?.toFixed(4) ?? ''),
      ]),
    ]),
  };
}
