/** The page of one run: its state, its course, its workers, and what it has written. */

import { sentenceOf } from '../../../shared/events/run-events.js';
import type { RunHistory } from '../../record/history/run-history.js';
import type { WorkerCourse } from '../../record/history/worker-courses.js';
import { isUnderWay, type RunState } from '../../record/run-state.js';
import type { RunStatus } from '../../record/run-status.js';
import {
  absence,
  code,
  columnsOf,
  factsBlock,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Fact,
  type Form,
  type Piece,
  type Text,
  type Tone,
} from '../../reports/document/document.js';
import { durationText, formatCount, timeText } from '../../reports/document/format.js';
import { stateBadge } from '../../reports/run-documents.js';
import { differencesOf, type RunSettings } from '../catalog/run-settings.js';
import { announcedPart, headPart, part, runPath, type Page } from './page.js';
import { courseFigures, timeFigure } from './run-charts.js';

interface ShownRun {
  readonly status: RunStatus;
  readonly history: RunHistory;
}

/** Additions to the record of the run; a file has the settings alone. */
interface RunAdditions {
  /** The key of the run; empty in a file. */
  readonly key: string;
  /** Null before the first checkpoint. */
  readonly settings: RunSettings | null;
  /** The form that controls the run; null where it may not be controlled. */
  readonly control?: Form | null;
  /** The run whose settings are compared, and its settings if it has a checkpoint. */
  readonly compared?: { readonly key: string; readonly settings: RunSettings | null } | null;
  /** The keys of other runs that can be compared. */
  readonly others?: readonly string[];
  /** Reports that lie in the output. */
  readonly links?: readonly Text[];
}

export function runPage({ status, history }: ShownRun, additions: RunAdditions): Page {
  const { state } = status;
  const name = status.run ?? status.output;
  const { control = null, links = [] } = additions;
  const figures = courseFigures(history);
  const course: Block =
    figures.length === 0 ? absence('No outer step has ended yet.') : { kind: 'figures', figures };
  return {
    title: `${name}, ${state}`,
    place: '/runs',
    parts: [
      headPart(name, status.output),
      announcedPart('state', ...stateBlocks(status)),
      part('orders', ...(control === null ? [] : [control])),
      part('facts', ...progressBlocks(status), factsBlock(...factsOf(status, history))),
      part('course', section('Course', '', [course])),
      part('time', section('Where the time goes', '', timeFigure(history))),
      part('workers', section('Workers', '', [workersBlock(history, state)])),
      part('outcomes', section('Refusals and stragglers', '', outcomeBlocks(status, history))),
      part('saved', section('Checkpoints and reports', '', savedBlocks(history, links))),
      part('config', section('Config', '', settingsBlocks(additions))),
      part('log', section('Log', 'The last events, in universal time.', logBlocks(history))),
    ],
  };
}

const STATE_WORDS: Readonly<Record<RunState, string>> = {
  running: 'Running normally.',
  'waiting for workers': 'Jobs are queued, and no worker has finished one since the wait began.',
  paused: 'Paused by a command.',
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
  const isPresent = (worker: WorkerCourse): boolean => !isGone(worker);
  const present = history.workers.filter(isPresent).length;
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
    isActive && history.workers.length > 0 ? [formatCount(present), 'workers in the log'] : null,
    isActive
      ? [durationText(silentMs), 'since the last event']
      : [lastEvent.slice(0, 10), 'last event', `${lastEvent.slice(11)} UTC`],
  ];
  return facts.filter((fact) => fact !== null);
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

function isGone({ state }: WorkerCourse): boolean {
  return state === 'stopped' || state === 'exited';
}

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
      ...['<worker', '<state', '<device', 'memory', 'GPU memory', '~current job'],
      ...['last job took', 'slow jobs', 'refused', '<last event, UTC'],
    ),
    rows: shown.map((worker) => {
      const { device, backend, residentByteCount, gpuMemoryMiB, job, lastComputeMs } = worker;
      const by = backend === null ? '' : ` (${backend.split(',')[0] ?? ''})`;
      return [
        worker.worker,
        workerState(worker, runState),
        device === null ? '-' : `${device}${by}`,
        residentByteCount === null ? '-' : `${Math.round(residentByteCount / BYTES_PER_MIB)} MiB`,
        (gpuMemoryMiB ?? 0) === 0 ? '-' : `${((gpuMemoryMiB ?? 0) / 1_024).toFixed(0)} GiB`,
        job?.jobId ?? '-',
        lastComputeMs === null ? '-' : durationText(lastComputeMs),
        String(worker.slowJobCount),
        String(worker.refusedResultCount),
        timeText(worker.lastEventMs).slice(11),
      ];
    }),
  });
}

/** A worker that was computing when its run ended or was lost has no known state. */
function workerState(worker: WorkerCourse, runState: RunState): Piece {
  const { state, end } = worker;
  if (!isUnderWay(runState) && !isGone(worker)) return { text: 'unknown', badge: 'plain' };
  return { text: `${state}${end === null ? '' : `, ${end}`}`, badge: WORKER_TONES[state] };
}

function outcomeBlocks(status: RunStatus, history: RunHistory): Block[] {
  const refused = Object.entries(status.refusedResultCounts);
  const retried = Object.entries(history.retriedJobCounts);
  const rows = [
    ...refused.map(([reason, count]) => [`results refused: ${reason}`, formatCount(count)]),
    ...retried.map(([cause, count]) => [`jobs sent again: ${cause}`, formatCount(count)]),
  ];
  const slow = history.slowJobs.map(({ outerStep, jobIndex, worker, heldMs }) => [
    ...[String(outerStep), String(jobIndex), worker, durationText(heldMs)],
  ]);
  if (rows.length + slow.length === 0)
    return [absence('No result was refused, no job was sent again, and none had a copy.')];
  const outcomes = tableBlock('Refusals and repeats by reason', {
    ...{ columns: columnsOf('<what happened', 'count'), rows },
  });
  const stragglers = tableBlock('Stragglers', {
    ...{ columns: columnsOf('<outer step', 'job', '<slow worker', 'held for'), rows: slow },
  });
  return [
    ...(rows.length === 0 ? [] : [outcomes]),
    ...(slow.length === 0
      ? []
      : [section('Stragglers: jobs that were also sent to an idle worker', '', [stragglers])]),
  ];
}

function savedBlocks({ checkpoints, reports }: RunHistory, links: readonly Text[]): Block[] {
  const table = tableBlock('Checkpoints', {
    columns: columnsOf('<outer step', '<saved, UTC', '~digest of the meta-parameters'),
    rows: checkpoints.map(({ outerStep, digest, epochMs }) => [
      ...[String(outerStep), timeText(epochMs), code(digest)],
    ]),
  });
  const items = links.length > 0 ? links : reports;
  return [
    checkpoints.length === 0 ? absence('No checkpoint yet.') : table,
    ...(items.length === 0 ? [] : [section('Reports', '', [{ kind: 'list', items } as const])]),
  ];
}

function settingsBlocks({ key, settings, compared = null, others = [] }: RunAdditions): Block[] {
  if (settings === null) return [absence('Known from the first checkpoint on.')];
  const form: Form = {
    ...{ kind: 'form', method: 'get', action: `${runPath(key)}#config` },
    fields: [{ label: 'Compare with', name: 'with', value: compared?.key ?? '', options: others }],
    buttons: [{ text: 'Compare' }],
  };
  const all = tableBlock('Settings', {
    ...{ columns: columnsOf('<setting', '~value'), rows: [...settings] },
  });
  return [
    ...(others.length === 0 ? [] : [form]),
    ...(compared === null ? [] : [comparedBlock(settings, compared)]),
    { kind: 'details', summary: `All ${settings.size} settings`, blocks: [all] },
  ];
}

function comparedBlock(
  settings: RunSettings,
  { key, settings: others }: NonNullable<RunAdditions['compared']>,
): Block {
  if (others === null) return absence(`${key} has no checkpoint to compare with.`);
  const differences = differencesOf(settings, others);
  if (differences.length === 0) return absence(`Every setting is the same as that of ${key}.`);
  return tableBlock(`Settings that differ from those of ${key}`, {
    columns: [...columnsOf('<setting', '~this run'), { title: key, align: 'wrap' }],
    rows: differences.map(({ path, value, otherValue }) => [
      ...[path, value ?? 'none', otherValue ?? 'none'],
    ]),
  });
}

function logBlocks({ log, unknownEventCount }: RunHistory): Block[] {
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
  const unknown = `${unknownEventCount} lines of another version are not shown.`;
  return [
    { kind: 'list', label: 'The last events', items: items.reverse() },
    ...(unknownEventCount === 0 ? [] : [absence(unknown)]),
  ];
}
