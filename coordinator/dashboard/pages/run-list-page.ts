/** The list of runs: the latest first, by state and name, a hundred at a time. */

import { counted } from '../../../shared/names/counted.js';
import type { RunState } from '../../record/run-state.js';
import {
  absence,
  link,
  textBlock,
  type Block,
  type Form,
  type Piece,
} from '../../reports/document/document.js';
import { formatCount } from '../../reports/document/format.js';
import { RUN_STATES, runsTable } from '../../reports/run-documents.js';
import type { CatalogedRun, CatalogedRuns } from '../catalog/run-catalog.js';
import { announcedPart, headPart, part, runPath, type Page } from './page.js';

interface RunFilter {
  /** A part of the name or of the output; empty for all. */
  readonly text: string;
  readonly state: RunState | null;
  /** From 1. */
  readonly page: number;
}

const RUNS_PER_PAGE = 100;

export function filterOf(query: URLSearchParams): RunFilter {
  const page = Number(query.get('page') ?? 1);
  return {
    text: (query.get('q') ?? '').slice(0, 200),
    state: RUN_STATES.find((state) => state === query.get('state')) ?? null,
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
  const pageCount = Math.max(1, Math.ceil(found.length / RUNS_PER_PAGE));
  const page = Math.min(filter.page, pageCount);
  const shown = found.slice((page - 1) * RUNS_PER_PAGE, page * RUNS_PER_PAGE);
  const cut = isCut ? ' There are more, which were not read.' : '';
  const runCount = counted(runs.length, 'run', formatCount(runs.length));
  const some = found.length === runs.length ? '' : `${formatCount(found.length)} of `;
  return {
    title: 'Runs',
    place: '/runs',
    parts: [
      headPart('Runs', '', filterForm(filter)),
      announcedPart('count', textBlock(`${some}${runCount}.${cut}`, 'note')),
      part('runs', linkedRuns(shown)),
      part('pages', ...pageLinks(filter, page, pageCount)),
    ],
  };
}

export function linkedRuns(runs: readonly CatalogedRun[]): Block {
  if (runs.length === 0) return absence('No such runs.');
  return runsTable(runs.map(({ key, status }) => ({ key, status, href: runPath(key) })));
}

function filterForm({ text, state }: RunFilter): Form {
  return {
    ...{ kind: 'form', method: 'get', action: '/runs', buttons: [{ text: 'Show' }] },
    fields: [
      { label: 'Name or folder', name: 'q', value: text, isText: true },
      {
        ...{ label: 'State', name: 'state', value: state ?? '' },
        options: [{ value: '', text: 'any' }, ...RUN_STATES],
      },
    ],
  };
}

function pageLinks(filter: RunFilter, page: number, pageCount: number): Block[] {
  if (pageCount === 1) return [];
  const to = (number: number, text: string): Piece => {
    const query = new URLSearchParams({ q: filter.text, state: filter.state ?? '' });
    query.set('page', String(number));
    return link(`/runs?${query.toString()}`, text);
  };
  const links = [
    ...(page > 1 ? [to(page - 1, 'Newer')] : []),
    `page ${page} of ${pageCount}`,
    ...(page < pageCount ? [to(page + 1, 'Older')] : []),
  ];
  return [{ kind: 'links', label: 'Pages of the list', links }];
}
