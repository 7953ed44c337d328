/** The list of runs: the latest first, by state and name, a hundred at a time. */

import { escapeHtml } from '../../reports/html-text.js';
import { counted } from '../../../shared/names/counted.js';
import { durationText } from '../../reports/record/duration-text.js';
import { formatCount } from '../../reports/text-format.js';
import type { RunState } from '../../record/run-state.js';
import type { CatalogedRun, CatalogedRuns } from '../catalog/run-catalog.js';
import { link, nothing, regionTable, runPath, stateBadge, type Cell } from './elements.js';
import type { Page } from './page.js';

interface RunFilter {
  /** A part of the name or of the output; empty for all. */
  readonly text: string;
  readonly state: RunState | null;
  /** From 1. */
  readonly page: number;
}

export const STATES: readonly RunState[] = [
  'running',
  'waiting for workers',
  'paused',
  'stalled',
  'finished',
  'failed',
  'interrupted',
  'lost',
];

const RUNS_A_PAGE = 100;

export function filterOf(query: URLSearchParams): RunFilter {
  const page = Number(query.get('page') ?? 1);
  return {
    text: (query.get('q') ?? '').slice(0, 200),
    state: STATES.find((state) => state === query.get('state')) ?? null,
    page: Number.isSafeInteger(page) && page >= 1 ? page : 1,
  };
}

export function runListPage({ runs, isCut }: CatalogedRuns, filter: RunFilter): Page {
  const wanted = filter.text.toLowerCase();
  const found = runs.filter(
    ({ status, key }) =>
      (filter.state === null || status.state === filter.state) &&
      [status.run ?? '', status.output, key].some((text) => text.toLowerCase().includes(wanted)),
  );
  const pageCount = Math.max(1, Math.ceil(found.length / RUNS_A_PAGE));
  const page = Math.min(filter.page, pageCount);
  const shown = found.slice((page - 1) * RUNS_A_PAGE, page * RUNS_A_PAGE);
  const cut = isCut ? ' There are more, which were not looked into.' : '';
  const runCount = counted(runs.length, 'run', formatCount(runs.length));
  const countText =
    found.length === runs.length
      ? `${runCount}.${cut}`
      : `${formatCount(found.length)} of ${runCount}.${cut}`;
  return {
    title: 'Runs',
    place: '/runs',
    parts: [
      { id: 'head', html: `<h1>Runs</h1>${formHtml(filter)}` },
      { id: 'count', html: `<p class="note">${escapeHtml(countText)}</p>`, isAnnounced: true },
      { id: 'runs', html: runsTable(shown) },
      { id: 'pages', html: pagesHtml(filter, page, pageCount) },
    ],
  };
}

/** @param runs at least none; a page that has none says so. */
export function runsTable(runs: readonly CatalogedRun[]): string {
  if (runs.length === 0) return nothing('No such runs.');
  return regionTable({
    label: 'Runs',
    columns: [
      ['run', 'text'],
      ['state', 'text'],
      ['outer step'],
      ['query loss'],
      ['tasks/s'],
      ['left'],
      ['last event'],
      ['output', 'wrap'],
    ],
    rows: runs.map(rowOf),
  });
}

function rowOf({ key, status }: CatalogedRun): Cell[] {
  const { run, state, training, leftMs, silentMs, output } = status;
  const speed = training?.tasksPerSecond ?? null;
  return [
    link(runPath(key), run ?? key),
    stateBadge(state),
    training === null
      ? '-'
      : `${formatCount(training.outerStep)} of ${formatCount(training.outerSteps)}`,
    training?.queryLoss?.toFixed(4) ?? '-',
    speed === null ? '-' : formatCount(speed),
    leftMs === null ? '-' : durationText(leftMs),
    `${durationText(silentMs)} ago`,
    output,
  ];
}

function formHtml({ text, state }: RunFilter): string {
  const options = STATES.map(
    (each) => `<option${each === state ? ' selected' : ''}>${each}</option>`,
  );
  return (
    '<form class="filter" method="get" action="/runs" role="search">' +
    `<label>Name or folder<input name="q" value="${escapeHtml(text)}"></label>` +
    `<label>State<select name="state"><option value="">any</option>${options.join('')}</select></label>` +
    '<button>Show</button></form>'
  );
}

function pagesHtml(filter: RunFilter, page: number, pageCount: number): string {
  if (pageCount === 1) return '';
  const to = (number: number, text: string): string => {
    const query = new URLSearchParams({ q: filter.text, state: filter.state ?? '' });
    query.set('page', String(number));
    return link(`/runs?${query.toString()}`, text).html;
  };
  const links = [
    page > 1 ? to(page - 1, 'Newer') : '',
    `<span>page ${page} of ${pageCount}</span>`,
    page < pageCount ? to(page + 1, 'Older') : '',
  ];
  return `<nav class="pages" aria-label="Pages of the list">${links.join('')}</nav>`;
}
