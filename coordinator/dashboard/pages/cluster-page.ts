/** The cluster at a glance: runs by state, and where there is a queue, its workers and its backlog. */

import type { LeaseHolder } from '../../../shared/storage/run-lease.js';
import { counted } from '../../../shared/names/counted.js';
import { durationText } from '../../reports/record/duration-text.js';
import { deviceKind, deviceText, memoryText } from '../../reports/record/worker-words.js';
import { formatCount } from '../../reports/text-format.js';
import { isUnderWay } from '../../record/run-state.js';
import type { CatalogedRuns } from '../catalog/run-catalog.js';
import type { QueueState } from '../catalog/queue-watch.js';
import {
  facts,
  link,
  nothing,
  regionTable,
  sectionHtml,
  stateBadge,
  timeText,
  type Html,
} from './elements.js';
import type { Page } from './page.js';
import { runsTable, STATES } from './run-list-page.js';

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

export function clusterPage(
  { runs, queue }: ClusterView,
  nowMs: number,
  controlOf: (run: ControlledRun) => string,
): Page {
  const state = queue !== null && 'counts' in queue ? queue : null;
  return {
    title: 'Cluster',
    place: '/',
    parts: [
      { id: 'head', html: '<h1>Cluster</h1>' },
      { id: 'states', html: runs === null ? '' : statesHtml(runs), isAnnounced: true },
      {
        id: 'queue-trouble',
        html:
          queue !== null && 'failure' in queue
            ? nothing(`The queue cannot be read: ${queue.failure}`)
            : '',
        isAnnounced: true,
      },
      { id: 'backlog', html: state === null ? '' : backlogHtml(state, nowMs) },
      { id: 'latest', html: runs === null ? '' : latestHtml(runs) },
      { id: 'queued-runs', html: state === null ? '' : queuedRunsHtml(state, controlOf) },
      { id: 'workers', html: state === null ? '' : workersHtml(state, nowMs) },
    ],
  };
}

function statesHtml({ runs, isCut }: CatalogedRuns): string {
  const rows = STATES.flatMap((state): string[] => {
    const count = runs.filter(({ status }) => status.state === state).length;
    if (count === 0) return [];
    const query = new URLSearchParams({ state });
    const linked = link(`/runs?${query.toString()}`, counted(count, 'run', formatCount(count)));
    return [`<li>${stateBadge(state).html} ${linked.html}</li>`];
  });
  if (rows.length === 0)
    return nothing('No runs yet. They show here as soon as their work begins.');
  return `<ul class="states">${rows.join('')}</ul>${isCut ? nothing('There are more runs, which were not looked into.') : ''}`;
}

function backlogHtml({ counts, workers, oldestJobMs, runs }: QueueState, nowMs: number): string {
  const working = runs.filter(({ holder }) => holder.progress?.state !== 'paused');
  const wanted = working.reduce((sum, { jobsPerOuterStep }) => sum + (jobsPerOuterStep ?? 0), 0);
  const shown: [string, string, string?][] = [
    [
      formatCount(workers.length),
      workers.length === 1 ? 'worker' : 'workers',
      devicesText(workers),
    ],
    [formatCount(wanted), 'workers wanted', 'the jobs of one outer step of each run'],
    [formatCount(counts.waiting), 'jobs wait'],
    [formatCount(counts.active), 'jobs under way'],
    [
      oldestJobMs === null ? 'none' : durationText(Math.max(0, nowMs - oldestJobMs)),
      'age of the oldest job',
    ],
  ];
  return sectionHtml('Queue', facts(shown));
}

function devicesText(workers: QueueState['workers']): string {
  const counts = new Map<string, number>();
  for (const worker of workers) {
    const kind = deviceKind(worker);
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return (
    [...counts].map(([device, count]) => `${device}: ${formatCount(count)}`).join(', ') ||
    'none lives'
  );
}

function latestHtml({ runs }: CatalogedRuns): string {
  const underWay = runs.filter(({ status }) => isUnderWay(status.state));
  const chosen = underWay.length > 0 ? underWay : runs;
  if (chosen.length === 0) return '';
  return sectionHtml(
    underWay.length > 0 ? 'Runs under way' : 'Latest runs',
    runsTable(chosen.slice(0, RUNS_SHOWN_MAX)) +
      `<p class="note">${link('/runs', `All ${counted(runs.length, 'run', formatCount(runs.length))}`).html}</p>`,
  );
}

function queuedRunsHtml({ runs }: QueueState, controlOf: (run: ControlledRun) => string): string {
  if (runs.length === 0) return '';
  const forms = runs.map(({ run, holder: { progress } }) =>
    controlOf({ run, isPaused: progress?.state === 'paused' }),
  );
  const control = forms.some((form) => form !== '');
  return sectionHtml(
    'Runs on the queue',
    regionTable({
      label: 'Runs on the queue',
      columns: [
        ['run', 'text'],
        ['state', 'text'],
        ['outer step'],
        ['jobs a step'],
        ['coordinator', 'text'],
        ['since, UTC', 'text'],
        ...(control ? [['orders', 'text'] as const] : []),
      ],
      rows: runs.map(({ run, jobsPerOuterStep, holder: { process, progress, sinceMs } }, index) => [
        run,
        progress?.state ?? '-',
        stepText(progress),
        jobsPerOuterStep === null ? '-' : formatCount(jobsPerOuterStep),
        `process ${process.pid} on ${process.host}`,
        timeText(sinceMs),
        ...(control ? [{ html: forms[index] ?? '' }] : []),
      ]),
    }),
    'What their coordinators said last. A run shows once it has jobs.',
  );
}

function stepText(progress: LeaseHolder['progress']): string {
  const training = progress?.training ?? null;
  return training === null
    ? '-'
    : `${formatCount(training.outerStep)} of ${formatCount(training.outerSteps)}`;
}

function workersHtml({ workers }: QueueState, nowMs: number): string {
  if (workers.length === 0)
    return sectionHtml('Workers', nothing('No worker lives. Start one with `qianmo worker`.'));
  const longest = [...workers].sort((a, b) => heldMs(b, nowMs) - heldMs(a, nowMs));
  const shown = longest.slice(0, WORKERS_SHOWN_MAX);
  const more =
    workers.length > shown.length
      ? nothing(`${formatCount(workers.length - shown.length)} more workers are not listed.`)
      : '';
  return sectionHtml(
    'Workers',
    regionTable({
      label: 'Workers',
      columns: [
        ['worker', 'text'],
        ['device', 'text'],
        ['memory'],
        ['connected for'],
        ['job held for'],
        ['current job', 'wrap'],
      ],
      rows: shown.map((worker) => [
        worker.name,
        deviceText(worker),
        memoryText(worker),
        durationText(Math.max(0, nowMs - worker.sinceMs)),
        worker.jobSinceMs === null ? '-' : durationText(heldMs(worker, nowMs)),
        jobCell(worker.jobId),
      ]),
    }) + more,
    'Those that have said within eight seconds that they live; who has held a job for longest stands first. Memory is that of the worker and its compute process.',
  );
}

function heldMs({ jobSinceMs }: QueueState['workers'][number], nowMs: number): number {
  return jobSinceMs === null ? 0 : Math.max(0, nowMs - jobSinceMs);
}

function jobCell(jobId: string | null): string | Html {
  return jobId ?? { html: '<span class="none">waits</span>' };
}
