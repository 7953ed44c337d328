/** Runs, their status and their workers as documents, and the lines of a log. */

import { printableText } from '../../shared/base/printable-text.js';
import { encodeEvent } from '../../shared/events/event-lines.js';
import { sentenceOf, type StampedEvent } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import type { ConnectedWorker } from '../../shared/queue/job-queue.js';
import type { RunState, RunStatus } from '../record/run-status.js';
import {
  columnsOf,
  fieldsBlock,
  tableBlock,
  textBlock,
  type Block,
  type Document,
  type Piece,
  type Tone,
} from './document/document.js';
import { durationText, formatCount, formatNumber } from './document/format.js';

export function statusDocument(status: RunStatus): Document {
  const { call, checkpoint, validation, ending, silentMs, outerStepMs, leftMs } = status;
  return {
    data: status,
    blocks: [
      fieldsBlock([
        ['run', status.run],
        ['output', status.output],
        ['state', stateText(status)],
        [
          'call',
          call &&
            `${call.name}, process ${call.process.pid} on ${call.process.host}, since ${new Date(call.sinceMs).toISOString()}`,
        ],
        ['step', stepText(status)],
        ['loss', lossText(status)],
        ['adapting', adaptationText(status)],
        ['pace', outerStepMs === null ? null : `${durationText(outerStepMs)} an outer step`],
        ['left', leftMs === null ? null : durationText(leftMs)],
        ['stage', stageText(status)],
        [
          'best',
          validation &&
            `outer step ${validation.bestOuterStep}, validation loss ${validation.bestLoss.toFixed(5)}`,
        ],
        ['checkpoint', checkpoint && `outer step ${checkpoint.outerStep}, ${checkpoint.digest}`],
        ['refused', refusedText(status)],
        ['last event', `${durationText(silentMs)} ago`],
        ['reason', ending?.kind === 'failed' ? ending.reason : null],
      ]),
    ],
  };
}

function stateText({ state, ending, unknownEventCount }: RunStatus): string {
  const kind = ending?.kind === 'failed' && state === 'failed' ? ` (${ending.failure})` : '';
  const unknown =
    unknownEventCount === 0 ? '' : `; ${unknownEventCount} lines of another version are not read`;
  return `${state}${kind}${unknown}`;
}

function stepText({ training }: RunStatus): string | null {
  if (training === null) return null;
  return `${formatCount(training.outerStep)} of ${formatCount(training.outerSteps)}`;
}

function lossText({ training }: RunStatus): string | null {
  const { queryLoss = null, supportLoss = null, tasksPerSecond = null } = training ?? {};
  if (queryLoss === null) return null;
  const support = supportLoss === null ? '' : `, support ${supportLoss.toFixed(4)}`;
  const speed = tasksPerSecond === null ? '' : `, ${Math.round(tasksPerSecond)} tasks/s`;
  return `query ${queryLoss.toFixed(4)}${support}${speed}`;
}

function adaptationText({ training }: RunStatus): string | null {
  const { adaptation = null } = training ?? {};
  if (adaptation === null) return null;
  const { outerStep, queryLossBefore, queryLossAfter } = adaptation;
  return `query loss ${queryLossBefore.toFixed(4)} before, ${queryLossAfter.toFixed(4)} after, in step ${outerStep}`;
}

/** Null for finished work: a search ends before all steps that it might have trained. */
function stageText({ stage, state }: RunStatus): string | null {
  if (stage === null || state === 'finished') return null;
  return `${stage.stage}, ${stage.done}${stage.total === null ? '' : ` of ${stage.total}`}`;
}

function refusedText({ refusedResultCounts }: RunStatus): string | null {
  const counts = Object.entries(refusedResultCounts);
  if (counts.length === 0) return null;
  return counts.map(([reason, count]) => `${counted(count, 'result')} ${reason}`).join(', ');
}

const STATE_TONES: Readonly<Record<RunState, Tone>> = {
  running: 'live',
  'waiting for workers': 'wait',
  stalled: 'bad',
  finished: 'good',
  failed: 'bad',
  interrupted: 'wait',
  lost: 'bad',
};

export const RUN_STATES = Object.keys(STATE_TONES) as readonly RunState[];

export function stateBadge(state: RunState): Piece {
  return { text: state, badge: STATE_TONES[state] };
}

interface ListedRun {
  readonly status: RunStatus;
  /** Its page, and its name if the record has none. */
  readonly href?: string;
  readonly key?: string;
}

export function runsTable(runs: readonly ListedRun[]): Block {
  return tableBlock('Runs', {
    columns: [
      ...columnsOf('<run', '<state'),
      { title: 'call', align: 'left', isOptional: true },
      ...columnsOf('outer step', 'query loss'),
      { title: 'tasks/s', on: 'page' },
      { title: 'left', on: 'page' },
      { title: 'last event' },
      { title: 'output', align: 'wrap', isOptional: true },
    ],
    rows: runs.map(({ status, href, key = '-' }) => {
      const { run, state, callName, training, leftMs, silentMs, output } = status;
      const speed = training?.tasksPerSecond ?? null;
      return [
        { text: run ?? key, ...(href === undefined ? {} : { href }) },
        stateBadge(state),
        callName ?? '-',
        stepText(status) ?? '-',
        formatNumber(training?.queryLoss, 4),
        speed === null ? '-' : formatCount(speed),
        leftMs === null ? '-' : durationText(leftMs),
        `${durationText(silentMs)} ago`,
        output,
      ];
    }),
  });
}

/** @param isCut whether there are more runs, which were not read */
export function runsDocument(runs: readonly RunStatus[], isCut: boolean): Document {
  const table = runsTable(runs.map((status) => ({ status })));
  return {
    data: { runs, isCut },
    blocks: [
      runs.length === 0 ? textBlock('no runs') : table,
      ...(isCut ? [textBlock('there are more: name a folder further down')] : []),
    ],
  };
}

interface ListedWorker extends Omit<ConnectedWorker, 'instance'> {
  /** The time at which it was first seen with its job. */
  readonly jobSinceMs?: number | null;
}

export function workersTable(workers: readonly ListedWorker[], nowMs: number): Block {
  const sinceText = (ms: number): string => durationText(Math.max(0, nowMs - ms));
  return tableBlock('Workers', {
    columns: [
      ...columnsOf('<worker', '<device', 'memory', 'connected for'),
      { title: 'job held for', on: 'page' },
      { title: 'job', align: 'wrap', isOptional: true },
    ],
    rows: workers.map(({ name, sinceMs, jobId, jobSinceMs = null, ...worker }) => [
      name,
      deviceText(worker),
      memoryText(worker),
      sinceText(sinceMs),
      jobSinceMs === null ? '-' : sinceText(jobSinceMs),
      jobId ?? { text: 'waits', style: 'none' },
    ]),
  });
}

export function workersDocument(workers: readonly ConnectedWorker[], nowMs: number): Document {
  return {
    data: { workers },
    blocks: [workers.length === 0 ? textBlock('no workers') : workersTable(workers, nowMs)],
  };
}

type Device = Pick<ConnectedWorker, 'device' | 'report'>;

const BYTES_PER_MIB = 1_024 * 1_024;
const MIB_PER_GIB = 1_024;
const NOT_REPORTED = 'not reported';

/** `CPU` or `GPU`; the requested device if the worker does not report one. */
export function deviceKind({ device, report }: Device): string {
  return report?.device?.kind.toUpperCase() ?? device;
}

/** `GPU (NVIDIA H100, 80 GiB)` */
function deviceText(worker: Device): string {
  const found = worker.report?.device ?? null;
  if (found === null) return worker.device === 'auto' ? NOT_REPORTED : worker.device;
  const gibibytes = ((found.memoryMiB ?? 0) / MIB_PER_GIB).toFixed(0);
  const details = [found.model, gibibytes === '0' ? '' : `${gibibytes} GiB`]
    .filter((text) => text !== '')
    .join(', ');
  return details === '' ? deviceKind(worker) : `${deviceKind(worker)} (${details})`;
}

/** `90 + 410 MiB`: the worker, and its compute process. */
function memoryText({ report }: Pick<Device, 'report'>): string {
  if (report === null) return NOT_REPORTED;
  const { residentByteCount, computeResidentByteCount } = report;
  const parts = [residentByteCount, computeResidentByteCount].flatMap((byteCount) =>
    byteCount === null ? [] : [(byteCount / BYTES_PER_MIB).toFixed(0)],
  );
  return `${parts.join(' + ')} MiB`;
}

export function logLine(event: StampedEvent, format: 'table' | 'json'): string {
  if (format === 'json') return encodeEvent(event);
  const { level, text } = sentenceOf(event);
  const time = new Date(event.epochMs).toISOString();
  const by = event.worker === undefined ? '' : `${event.worker}: `;
  return printableText(`${time}  ${level.padEnd(7)}  ${by}${text.replaceAll('\n', ', ')}`);
}
