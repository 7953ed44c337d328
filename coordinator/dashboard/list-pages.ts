/** The cluster at a glance, and the list of runs: the latest first, by state and name, a hundred at a time. */

import { counted } from '../../shared/names/counted.js';
import { isUnderWay, type RunState } from '../record/run-status.js';
import {
  absence,
  columnsOf,
  factsBlock,
  link,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Form,
  type Piece,
} from '../reports/document/document.js';
import { durationText, formatCount, timeText } from '../reports/document/format.js';
import {
  deviceKind,
  RUN_STATES,
  runsTable,
  stateBadge,
  workersTable,
} from '../reports/run-documents.js';
import type { FormOfRun } from './access.js';
import { runPath, type Page } from './page.js';
import type { QueueState } from './queue-watch.js';
import type { CatalogedRun, CatalogedRuns } from './run-catalog.js';

/** The sources of the cluster page; each is null where the dashboard was given no such source. */
interface ClusterView {
  readonly runs: CatalogedRuns | null;
  /** The state of the queue, or why it cannot be read. */
  readonly queue: QueueState | { readonly failure: string } | null;
}

const WORKERS_SHOWN_MAX = 200;
const LATEST_MAX = 10;
const RUNS_PER_PAGE = 100;

/** @param formOf the form that cancels a run; null where runs may not be cancelled */
export function clusterPage(
  { runs, queue }: ClusterView,
  nowMs: number,
  formOf: FormOfRun | null,
): Page {
  const state = queue !== null && 'counts' in queue ? queue : null;
  const failure = queue !== null && 'failure' in queue ? queue.failure : null;
  return {
    ...{ title: 'Cluster', place: '/', announced: ['states', 'queue-trouble'] },
    parts: {
      states: runs === null ? [] : runStates(runs),
      'queue-trouble': failure === null ? [] : [absence(`The queue cannot be read: ${failure}`)],
      backlog: state === null ? [] : [backlog(state, nowMs)],
      latest: runs === null ? [] : latestRuns(runs),
      'queued-runs': state === null ? [] : queuedRuns(state, formOf),
      workers: state === null ? [] : [workersSection(state, nowMs)],
    },
  };
}

function runStates({ runs, isCut }: CatalogedRuns): Block[] {
  const links = RUN_STATES.flatMap((state) => {
    const count = runs.filter(({ status }) => status.state === state).length;
    if (count === 0) return [];
    const query = new URLSearchParams({ state }).toString();
    const text = counted(count, 'run', formatCount(count));
    return [stateBadge(state), ' ', link(`/runs?${query}`, text)];
  });
  if (links.length === 0)
    return [absence('No runs yet. They show here as soon as their work begins.')];
  const cut = isCut ? [absence('There are more runs, which were not read.')] : [];
  return [{ kind: 'links', label: 'Runs by state', links }, ...cut];
}

function backlog({ counts, workers, oldestJobMs, runs }: QueueState, nowMs: number): Block {
  const wanted = runs.reduce((sum, { jobsPerOuterStep }) => sum + (jobsPerOuterStep ?? 0), 0);
  const oldest = oldestJobMs === null ? 'none' : durationText(Math.max(0, nowMs - oldestJobMs));
  const kinds = workers.map(deviceKind);
  const devices = [...new Set(kinds)].map(
    (kind) => `${kind}: ${formatCount(kinds.filter((each) => each === kind).length)}`,
  );
  return section('Queue', '', [
    factsBlock(
      [
        formatCount(workers.length),
        workers.length === 1 ? 'worker' : 'workers',
        devices.join(', ') || 'none connected',
      ],
      [formatCount(wanted), 'workers wanted', 'the jobs of one outer step of each run'],
      [formatCount(counts.waiting), 'jobs wait'],
      [formatCount(counts.active), 'jobs under way'],
      [oldest, 'age of the oldest job'],
    ),
  ]);
}

function latestRuns({ runs }: CatalogedRuns): Block[] {
  const underWay = runs.filter(({ status }) => isUnderWay(status.state));
  const chosen = underWay.length > 0 ? underWay : runs;
  if (chosen.length === 0) return [];
  const all = `All ${counted(runs.length, 'run', formatCount(runs.length))}`;
  return [
    section(underWay.length > 0 ? 'Runs under way' : 'Latest runs', '', [
      linkedRuns(chosen.slice(0, LATEST_MAX)),
      textBlock(link('/runs', all), 'note'),
    ]),
  ];
}

function queuedRuns({ runs }: QueueState, formOf: FormOfRun | null): Block[] {
  if (runs.length === 0) return [];
  const table = tableBlock('Runs on the queue', {
    columns: columnsOf(
      ...['<run', '<state', 'outer step', 'jobs a step', '<coordinator', '<since, UTC'],
      ...(formOf === null ? [] : ['<cancel']),
    ),
    rows: runs.map(({ run, jobsPerOuterStep, holder: { process, progress, sinceMs } }) => {
      const training = progress?.training ?? null;
      return [
        run,
        progress?.state ?? '-',
        training === null
          ? '-'
          : `${formatCount(training.outerStep)} of ${formatCount(training.outerSteps)}`,
        jobsPerOuterStep === null ? '-' : formatCount(jobsPerOuterStep),
        `process ${process.pid} on ${process.host}`,
        timeText(sinceMs),
        ...(formOf === null ? [] : [formOf(run)]),
      ];
    }),
  });
  const note = 'The last report of their coordinators. A run shows once it has jobs.';
  return [section('Runs on the queue', note, [table])];
}

function workersSection({ workers }: QueueState, nowMs: number): Block {
  if (workers.length === 0)
    return section('Workers', '', [
      absence('No worker is connected. Start one with `qianmo worker`.'),
    ]);
  const sinceMs = ({ jobSinceMs }: QueueState['workers'][number]): number => jobSinceMs ?? nowMs;
  const longest = [...workers].sort((a, b) => sinceMs(a) - sinceMs(b));
  const hidden = workers.length - WORKERS_SHOWN_MAX;
  return section(
    'Workers',
    'Workers with a heartbeat in the last eight seconds; the longest-held job first. Memory is that of the worker and its compute process.',
    [
      workersTable(longest.slice(0, WORKERS_SHOWN_MAX), nowMs),
      ...(hidden > 0 ? [absence(`${formatCount(hidden)} more workers are not listed.`)] : []),
    ],
  );
}

interface RunFilter {
  /** A part of the name or of the output; empty for all. */
  readonly text: string;
  readonly state: RunState | null;
}

export function runListPage({ runs, isCut }: CatalogedRuns, query: URLSearchParams): Page {
  const filter = {
    text: (query.get('q') ?? '').slice(0, 200),
    state: RUN_STATES.find((state) => state === query.get('state')) ?? null,
  };
  const wanted = filter.text.toLowerCase();
  const found = runs.filter(
    ({ status, key }) =>
      (filter.state === null || status.state === filter.state) &&
      [status.run ?? '', status.output, key].some((text) => text.toLowerCase().includes(wanted)),
  );
  const pageCount = Math.max(1, Math.ceil(found.length / RUNS_PER_PAGE));
  const asked = Math.floor(Number(query.get('page') ?? 1)) || 1;
  const page = Math.min(Math.max(1, asked), pageCount);
  const shown = found.slice((page - 1) * RUNS_PER_PAGE, page * RUNS_PER_PAGE);
  const cut = isCut ? ' There are more, which were not read.' : '';
  const runCount = counted(runs.length, 'run', formatCount(runs.length));
  const some = found.length === runs.length ? '' : `${formatCount(found.length)} of `;
  return {
    ...{ title: 'Runs', place: '/runs', announced: ['count'] },
    parts: {
      head: [filterForm(filter)],
      count: [textBlock(`${some}${runCount}.${cut}`, 'note')],
      runs: [linkedRuns(shown)],
      pages: pageLinks(filter, page, pageCount),
    },
  };
}

function linkedRuns(runs: readonly CatalogedRun[]): Block {
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

function pageLinks({ text, state }: RunFilter, page: number, pageCount: number): Block[] {
  if (pageCount === 1) return [];
  const to = (number: number, label: string): Piece => {
    const query = new URLSearchParams({ q: text, state: state ?? '', page: String(number) });
    return link(`/runs?${query.toString()}`, label);
  };
  const links = [
    ...(page > 1 ? [to(page - 1, 'Newer')] : []),
    `page ${page} of ${pageCount}`,
    ...(page < pageCount ? [to(page + 1, 'Older')] : []),
  ];
  return [{ kind: 'links', label: 'Pages of the list', links }];
}
