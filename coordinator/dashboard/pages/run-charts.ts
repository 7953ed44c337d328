/** The drawings of a run: losses, speed, and where the time of outer steps goes. */

import { STEP_PHASES } from '../../../shared/names/event-terms.js';
import { courseChart, layersChart, type DrawnLine } from '../../reports/page/course-charts.js';
import { legendHtml } from '../../reports/page/page-frame.js';
import { durationText } from '../../reports/record/duration-text.js';
import type { RunHistory } from '../../record/history/run-history.js';
import type { Point } from '../../record/history/step-series.js';
import { figure, thinned } from './elements.js';
import { sizeFigure } from './size-figure.js';

/** Rows of a table beside a drawing. */
const ROWS_MAX = 60;

export function runCharts(history: RunHistory): string {
  const figures = [lossFigure, sizeFigure, gainFigure, speedFigure, normFigure].map((drawing) =>
    drawing(history),
  );
  const drawn = figures.filter((each) => each !== '').join('');
  return drawn === '' ? '' : `<div class="charts">${drawn}</div>`;
}

function lossFigure({ series }: RunHistory): string {
  const lines: DrawnLine[] = [
    { name: 'query loss after adaptation', colour: 'var(--run-1)', points: series.queryLoss },
    {
      ...{ name: 'query loss before adaptation', colour: 'var(--run-3)' },
      points: series.queryLossBefore,
    },
    {
      ...{ name: 'support loss before adaptation', colour: 'var(--run-5)', isDashed: true },
      points: series.supportLoss,
    },
    {
      ...{ name: 'validation', colour: 'var(--run-2)' },
      points: series.validationLoss,
      withDots: true,
    },
  ].filter(({ points }) => points.length > 0);
  if (lines.length === 0) return '';
  const last = series.queryLoss.at(-1);
  return figure({
    title: 'Loss',
    summary: `Mean of the tasks of an outer step${last === undefined ? '' : `; query loss ${last.y.toFixed(4)} after adaptation at step ${last.x}`}.`,
    drawing: courseChart({
      ...{ xTitle: 'outer step', yTitle: 'loss', lines, fromZero: false, isWide: true },
    }),
    isWide: true,
    table: tableOf(lines, 4, series.queryLossBefore),
  });
}

/** Empty for a record without query losses before adaptation. */
function gainFigure({ series: { adaptationGain: points } }: RunHistory): string {
  const last = points.at(-1);
  if (last === undefined) return '';
  const lines = [{ name: 'gain by adaptation', colour: 'var(--run-2)', points }];
  return figure({
    title: 'Gain by adaptation',
    summary: `Query loss before adaptation minus after it, on the same rows; ${last.y.toFixed(4)} at step ${last.x}.`,
    drawing: courseChart({ xTitle: 'outer step', yTitle: 'loss', lines, fromZero: false }),
    table: tableOf(lines, 4),
  });
}

function speedFigure({ series: { tasksPerSecond: points } }: RunHistory): string {
  const last = points.at(-1);
  if (last === undefined) return '';
  const lines = [{ name: 'tasks/s', colour: 'var(--run-4)', points }];
  return figure({
    title: 'Speed',
    summary: `Tasks per second by outer step; ${Math.round(last.y)} at step ${last.x}.`,
    drawing: courseChart({ xTitle: 'outer step', yTitle: 'tasks/s', lines, fromZero: true }),
    table: tableOf(lines, 0),
  });
}

function normFigure({ series: { gradientNorm: points } }: RunHistory): string {
  const last = points.at(-1);
  if (last === undefined) return '';
  const lines = [{ name: 'gradient norm', colour: 'var(--run-7)', points }];
  return figure({
    title: 'Gradient norm',
    summary: `Norm of the meta-gradient before it is clipped; ${last.y.toPrecision(3)} at step ${last.x}.`,
    drawing: courseChart({ xTitle: 'outer step', yTitle: 'norm', lines, fromZero: true }),
    table: tableOf(lines, 4),
  });
}

/** @param sparse the points whose steps are shown, where there are some: a few among those of the lines */
function tableOf(lines: readonly DrawnLine[], digits: number, sparse: readonly Point[] = []) {
  const from = sparse.length > 1 ? [sparse] : lines.map(({ points }) => points);
  const steps = [...new Set(from.flatMap((points) => points.map(({ x }) => x)))];
  const shown = thinned(
    steps.sort((a, b) => a - b),
    ROWS_MAX,
  );
  const byLine = lines.map(({ points }) => new Map(points.map(({ x, y }: Point) => [x, y])));
  return {
    columns: [['outer step'] as const, ...lines.map(({ name }) => [name] as const)],
    rows: shown.map((step) => [
      String(step),
      ...byLine.map((values) => values.get(step)?.toFixed(digits) ?? ''),
    ]),
  };
}

/** Empty for a record without times. */
export function timeFigure({ timedSteps }: RunHistory): string {
  const last = timedSteps.at(-1);
  const phases = STEP_PHASES.filter((phase) =>
    timedSteps.some(({ meanMsByPhase }) => meanMsByPhase.has(phase)),
  );
  if (last === undefined || phases.length === 0) return '';
  const layers = phases.map((name) => ({
    name,
    colour: `var(--phase-${STEP_PHASES.indexOf(name)})`,
    values: timedSteps.map(({ meanMsByPhase }) => meanMsByPhase.get(name) ?? 0),
  }));
  const [longest] = [...last.meanMsByPhase].sort(([, a], [, b]) => b - a);
  const spans = thinned(timedSteps, ROWS_MAX);
  return figure({
    title: 'Time of an outer step',
    summary: `Milliseconds by phase${longest === undefined ? '' : `; the longest is ${longest[0]}, ${durationText(longest[1])}`}. Fetching, computing and uploading are means of the workers, and overlap.`,
    drawing: layersChart({
      xTitle: 'outer step',
      yTitle: 'ms',
      categories: timedSteps.map(({ lastOuterStep }) => String(lastOuterStep)),
      layers,
    }),
    legend: legendHtml(layers),
    isWide: true,
    table: {
      columns: [['outer steps'], ...phases.map((phase) => [phase] as const)],
      rows: spans.map(({ firstOuterStep, lastOuterStep, meanMsByPhase }) => [
        firstOuterStep === lastOuterStep
          ? `${lastOuterStep}`
          : `${firstOuterStep} to ${lastOuterStep}`,
        ...phases.map((phase) => meanMsByPhase.get(phase)?.toFixed(1) ?? ''),
      ]),
    },
  });
}
