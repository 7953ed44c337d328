/** The workers of a run as its record has them. */

import { escapeHtml } from '../../reports/html-text.js';
import { durationText } from '../../reports/record/duration-text.js';
import type { RunHistory } from '../../record/history/run-history.js';
import type { WorkerCourse } from '../../record/history/worker-courses.js';
import { isUnderWay, type RunState } from '../../record/run-state.js';
import { nothing, regionTable, timeText, type Cell, type Html } from './elements.js';

/** Workers that are gone, the last ones. */
const GONE_MAX = 20;
const PRESENT_MAX = 200;
const BYTES_PER_MIB = 1_024 * 1_024;

const TONES: Readonly<Record<WorkerCourse['state'], string>> = {
  starts: 'wait',
  waits: 'good',
  computes: 'live',
  rests: 'wait',
  stopped: '',
  exited: 'bad',
};

export function workersHtml({ workers }: RunHistory, runState: RunState): string {
  const isGone = ({ state }: WorkerCourse): boolean => state === 'stopped' || state === 'exited';
  const present = workers.filter((worker) => !isGone(worker)).slice(0, PRESENT_MAX);
  const gone = workers.filter(isGone).sort((a, b) => b.lastEventMs - a.lastEventMs);
  const shown = [...present, ...gone.slice(0, GONE_MAX)];
  if (shown.length === 0)
    return nothing('The record names no worker. It has those that the command itself has started.');
  return regionTable({
    label: 'Workers',
    columns: [
      ['worker', 'text'],
      ['state', 'text'],
      ['device', 'text'],
      ['memory'],
      ['GPU memory'],
      ['current job', 'wrap'],
      ['last job took'],
      ['slow jobs'],
      ['refused'],
      ['last heard, UTC', 'text'],
    ],
    rows: shown.map((worker) => rowOf(worker, runState)),
  });
}

function rowOf(worker: WorkerCourse, runState: RunState): Cell[] {
  const { device, backend, residentByteCount, gpuMemoryMiB } = worker;
  const { job, lastComputeMs, lastEventMs } = worker;
  return [
    worker.worker,
    stateCell(worker, runState),
    device === null
      ? '-'
      : backend === null
        ? device
        : `${device} (${backend.split(',')[0] ?? ''})`,
    residentByteCount === null ? '-' : `${Math.round(residentByteCount / BYTES_PER_MIB)} MiB`,
    gpuMemoryMiB === null || gpuMemoryMiB === 0 ? '-' : `${(gpuMemoryMiB / 1_024).toFixed(0)} GiB`,
    job === null ? '-' : job.jobId,
    lastComputeMs === null ? '-' : durationText(lastComputeMs),
    String(worker.slowJobCount),
    String(worker.refusedResultCount),
    timeText(lastEventMs).slice(11),
  ];
}

/** Nothing more is known of a worker that was computing when its run ended or was lost. */
function stateCell({ state, end }: WorkerCourse, runState: RunState): Html {
  const isKnown = isUnderWay(runState) || state === 'stopped' || state === 'exited';
  const text = isKnown ? `${state}${end === null ? '' : `, ${end}`}` : 'unknown';
  return { html: `<span class="state ${isKnown ? TONES[state] : ''}">${escapeHtml(text)}</span>` };
}
