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
  type Cell,
} from '../reports/document/document.js';
import { durationText, formatCount, timeText, formatNumber } from '../reports/document/format.js';
import {
  deviceKind,
  RUN_STATES,
  runsTable,
  stateBadge,
  workersTable,
} from '../reports/run-documents.js';
import { runPath, type Page } from './page.js';
import type { QueueWatch } from './queue-watch.js';
import type { RunCatalog } from './run-catalog.js';
import { at } from '../../shared/base/arrays.js';
import { parseComparison, type ComparisonReport } from '../scoring/compare-runs.js';
import { comparisonDocument, shownLabel } from '../reports/comparison-document.js';
import { sweepDocument, trainedTrialCount } from '../reports/sweep-document.js';
import { parseSweepRecord, type SweepRecord } from '../sweep/sweep-record.js';

type CatalogedRuns = Awaited<ReturnType<RunCatalog['runs']>>;

type CatalogedRun = CatalogedRuns['runs'][number];

type QueueState = Awaited<ReturnType<QueueWatch['state']>>;

/** The sources of the cluster page; each is null where the dashboard was given no such source. */
interface ClusterView {
  readonly runs: CatalogedRuns | null;
  /** The state of the queue, or why it cannot be read. */
  readonly queue: QueueState | { readonly failure: string } | null;
}

/** Makes the form that controls a run. */
export type FormOfRun = (run: string) => Form;

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

type Findings =
  | { readonly kind: 'sweep' | 'search'; readonly record: SweepRecord }
  | { readonly kind: 'comparison'; readonly report: ComparisonReport };

const FILE_BY_CALL = new Map([
  ['sweep', 'sweep'],
  ['auto', 'auto'],
  ['compare', 'comparison'],
]);
const SWEEPS_MAX = 200;
const FILE_BYTE_COUNT_MAX = 32 * 1024 * 1024;
const KEPT_FOR_MS = 5_000;

export async function sweepListPage(catalog: RunCatalog): Promise<Page> {
  const { runs } = await catalog.runs();
  const found = runs.filter((run) => fileOf(run) !== undefined);
  const rows: Cell[][] = [];
  for (const run of found.slice(0, SWEEPS_MAX))
    rows.push(sweepRow(run, await findingsOf(catalog, run)));
  const table = tableBlock('Sweeps and comparisons', {
    columns: columnsOf(
      ...['<name', '<kind', '<state', 'trials or arms', '<best', 'loss', 'last event', '~output'],
    ),
    rows,
  });
  const none =
    'None yet. `qianmo sweep`, `qianmo auto` and `qianmo compare --out FOLDER` show here if their folders lie below --runs.';
  const isCut = found.length > SWEEPS_MAX;
  return {
    ...{ title: 'Sweeps', heading: 'Sweeps and comparisons', place: '/sweeps' },
    keptForMs: KEPT_FOR_MS,
    parts: {
      sweeps: [
        rows.length === 0 ? absence(none) : table,
        ...(isCut ? [absence('There are more, which were not read.')] : []),
      ],
    },
  };
}

function sweepRow({ key, status }: CatalogedRun, findings: Findings | null): Cell[] {
  const path = runPath(key).replace('/runs/', '/sweeps/');
  return [
    link(path, status.run ?? key),
    findings?.kind ?? '-',
    stateBadge(status.state),
    ...summaryOf(findings),
    `${durationText(status.silentMs)} ago`,
    status.output,
  ];
}

/** The number of trials or arms, the best of them and its loss. */
function summaryOf(findings: Findings | null): string[] {
  if (findings === null) return ['-', '-', '-'];
  if (findings.kind === 'comparison') {
    const { arms } = at(findings.report.slices, 0);
    const losses = arms.map(({ metrics }) => metrics.logloss);
    const loss = Math.min(...losses);
    const { length } = findings.report.runs;
    const best = shownLabel(findings.report, at(arms, losses.indexOf(loss)).arm);
    return [formatCount(length), best, formatNumber(loss, 4)];
  }
  const { trial = '-', validationLogloss: loss = null } = findings.record.best ?? {};
  return [formatCount(trainedTrialCount(findings.record)), trial, formatNumber(loss, 4)];
}

/** Null if no sweep or comparison has the key. */
export async function sweepPage(catalog: RunCatalog, key: string): Promise<Page | null> {
  const { runs } = await catalog.runs();
  const run = runs.find((each) => each.key === key);
  const file = run === undefined ? undefined : fileOf(run);
  if (run === undefined || file === undefined) return null;
  const { status } = run;
  const findings = await findingsOf(catalog, run);
  const state = [stateBadge(status.state), ' ', link(runPath(key), 'its workers and its log')];
  const isReported =
    findings !== null && (findings.kind === 'comparison' || findings.record.best !== null);
  const report = textBlock(link(`${runPath(key)}/files/${file}.html`, `${file}.html`));
  return {
    ...{ title: status.run ?? key, crumbs: status.output, place: '/sweeps', announced: ['state'] },
    keptForMs: KEPT_FOR_MS,
    parts: {
      state: [textBlock(state)],
      found: foundBlocks(findings, runs),
      report: isReported ? [section('As a file', '', [report])] : [],
    },
  };
}

function foundBlocks(findings: Findings | null, runs: readonly CatalogedRun[]): readonly Block[] {
  if (findings === null)
    return [absence('Nothing was found yet, or another version has written it.')];
  /** Calls name outputs as seen from their own folder. */
  const hrefOf = (output: string): string | null => {
    const address = output.replace(/^file:\/\//, '').replace(/\/+$/, '');
    const run = runs.find(
      ({ status }) => status.output === address || status.output.endsWith(`/${address}`),
    );
    return run === undefined ? null : runPath(run.key);
  };
  return findings.kind === 'comparison'
    ? comparisonDocument(findings.report, hrefOf).blocks
    : sweepDocument(findings.record, hrefOf).blocks;
}

/** The name of what the last call of an output writes; undefined for calls of other kinds. */
function fileOf({ status: { callName } }: CatalogedRun): string | undefined {
  return FILE_BY_CALL.get(callName ?? '');
}

/** Null for a file that is not there, or that another version wrote: the other pages stay. */
async function findingsOf(catalog: RunCatalog, run: CatalogedRun): Promise<Findings | null> {
  const [file, output] = [fileOf(run), await catalog.storeOf(run.key)];
  if (file === undefined || output === null) return null;
  try {
    const object = await output.get(`${file}.json`, FILE_BYTE_COUNT_MAX);
    if (object === null) return null;
    const text = Buffer.from(object.bytes).toString('utf8');
    const where = `${output.address}/${file}.json`;
    if (file === 'comparison') return { kind: 'comparison', report: parseComparison(text, where) };
    return { kind: file === 'auto' ? 'search' : 'sweep', record: parseSweepRecord(text, where) };
  } catch {
    return null;
  }
}
