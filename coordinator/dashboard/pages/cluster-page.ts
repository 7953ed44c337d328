/** The cluster at a glance: runs by state, and where there is a queue, its workers and its backlog. */

import { counted } from '../../../shared/names/counted.js';
import { isUnderWay } from '../../record/run-state.js';
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
} from '../../reports/document/document.js';
import { durationText, formatCount, timeText } from '../../reports/document/format.js';
import { deviceKind, RUN_STATES, stateBadge, workersTable } from '../../reports/run-documents.js';
import type { QueueState } from '../catalog/queue-watch.js';
import type { CatalogedRuns } from '../catalog/run-catalog.js';
import { announcedPart, headPart, part, type Page } from './page.js';
import { linkedRuns } from './run-list-page.js';

/** The sources of the cluster page; each is null where the dashboard was given no such source. */
interface ClusterView {
  readonly runs: CatalogedRuns | null;
  /** The state of the queue, or why it cannot be read. */
  readonly queue: QueueState | { readonly failure: string } | null;
}

/** A run as its forms know it. */
export interface ControlledRun {
  readonly run: string;
  readonly isPaused: boolean;
}

const WORKERS_SHOWN_MAX = 200;
const RUNS_SHOWN_MAX = 10;

/** @param formOf the form that controls a run; null where runs may not be controlled */
export function clusterPage(
  { runs, queue }: ClusterView,
  nowMs: number,
  formOf: ((run: ControlledRun) => Form) | null,
): Page {
  const state = queue !== null && 'counts' in queue ? queue : null;
  const failure = queue !== null && 'failure' in queue ? queue.failure : null;
  const trouble = failure === null ? [] : [absence(`The queue cannot be read: ${failure}`)];
  return {
    title: 'Cluster',
    place: '/',
    parts: [
      headPart('Cluster'),
      announcedPart('states', ...(runs === null ? [] : runStates(runs))),
      announcedPart('queue-trouble', ...trouble),
      part('backlog', ...(state === null ? [] : [backlog(state, nowMs)])),
      part('latest', ...(runs === null ? [] : latestRuns(runs))),
      part('queued-runs', ...(state === null ? [] : queuedRuns(state, formOf))),
      part('workers', ...(state === null ? [] : [workersSection(state, nowMs)])),
    ],
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
  const working = runs.filter(({ holder }) => holder.progress?.state !== 'paused');
  const wanted = working.reduce((sum, { jobsPerOuterStep }) => sum + (jobsPerOuterStep ?? 0), 0);
  const oldest = oldestJobMs === null ? 'none' : durationText(Math.max(0, nowMs - oldestJobMs));
  return section('Queue', '', [
    factsBlock(
      [
        formatCount(workers.length),
        workers.length === 1 ? 'worker' : 'workers',
        devicesText(workers),
      ],
      [formatCount(wanted), 'workers wanted', 'the jobs of one outer step of each run'],
      [formatCount(counts.waiting), 'jobs wait'],
      [formatCount(counts.active), 'jobs under way'],
      [oldest, 'age of the oldest job'],
    ),
  ]);
}

function devicesText(workers: QueueState['workers']): string {
  const kinds = workers.map(deviceKind);
  const counts = [...new Set(kinds)].map(
    (kind) => `${kind}: ${formatCount(kinds.filter((each) => each === kind).length)}`,
  );
  return counts.join(', ') || 'none connected';
}

function latestRuns({ runs }: CatalogedRuns): Block[] {
  const underWay = runs.filter(({ status }) => isUnderWay(status.state));
  const chosen = underWay.length > 0 ? underWay : runs;
  if (chosen.length === 0) return [];
  const all = `All ${counted(runs.length, 'run', formatCount(runs.length))}`;
  return [
    section(underWay.length > 0 ? 'Runs under way' : 'Latest runs', '', [
      linkedRuns(chosen.slice(0, RUNS_SHOWN_MAX)),
      textBlock(link('/runs', all), 'note'),
    ]),
  ];
}

function queuedRuns({ runs }: QueueState, formOf: ((run: ControlledRun) => Form) | null): Block[] {
  if (runs.length === 0) return [];
  const orders = formOf === null ? [] : columnsOf('<orders');
  const table = tableBlock('Runs on the queue', {
    columns: [
      ...columnsOf('<run', '<state', 'outer step', 'jobs a step', '<coordinator', '<since, UTC'),
      ...orders,
    ],
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
        ...(formOf === null ? [] : [formOf({ run, isPaused: progress?.state === 'paused' })]),
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
