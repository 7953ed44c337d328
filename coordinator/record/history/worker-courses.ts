/** The workers of a run as its events describe them. A worker that is started again has another name. */

import type { StampedEvent } from '../../../shared/events/run-events.js';

export interface WorkerCourse {
  readonly worker: string;
  /** `waits` for a job, `computes` one, or is gone: `stopped` in order, `exited` by itself or killed. */
  readonly state: 'starts' | 'waits' | 'computes' | 'rests' | 'stopped' | 'exited';
  /** Exit code, signal or what the system said; null while it lives or if it stopped in order. */
  readonly end: string | null;
  /** `CPU`, or the name of its GPU; null before it says so. */
  readonly device: string | null;
  readonly backend: string | null;
  /** MiB of its GPU; null without one. */
  readonly gpuMemoryMiB: number | null;
  /** Resident memory of its compute process after its last job; null before it has said so. */
  readonly residentByteCount: number | null;
  readonly job: { readonly jobId: string; readonly sinceMs: number } | null;
  /** Milliseconds of its last job. */
  readonly lastComputeMs: number | null;
  /** Jobs of which another worker got a copy, because this one had them for long. */
  readonly slowJobCount: number;
  readonly refusedResultCount: number;
  readonly lastEventMs: number;
}

/** Those that were heard of last are kept. */
const WORKERS_MAX = 1_000;

type Draft = { -readonly [Field in keyof WorkerCourse]: WorkerCourse[Field] };

export class WorkerCourses {
  readonly #byName = new Map<string, Draft>();

  admit(event: StampedEvent): void {
    if (event.worker !== undefined) {
      const draft = this.#of(event.worker, event.epochMs);
      admitOwn(draft, event);
    }
    if (event.kind === 'job-copied') this.#of(event.slowWorker, event.epochMs).slowJobCount += 1;
    if (event.kind === 'result-refused')
      this.#of(event.fromWorker, event.epochMs).refusedResultCount += 1;
  }

  /** The present first, in the order of their names. */
  courses(): WorkerCourse[] {
    const isGone = ({ state }: Draft): number => Number(state === 'stopped' || state === 'exited');
    return [...this.#byName.values()]
      .map((draft) => ({ ...draft }))
      .sort((a, b) => isGone(a) - isGone(b) || (a.worker < b.worker ? -1 : 1));
  }

  #of(worker: string, epochMs: number): Draft {
    const known = this.#byName.get(worker);
    const draft = known ?? { ...UNKNOWN, worker, lastEventMs: epochMs };
    draft.lastEventMs = epochMs;
    this.#byName.delete(worker);
    this.#byName.set(worker, draft);
    const [oldest] = this.#byName.keys();
    if (oldest !== undefined && this.#byName.size > WORKERS_MAX) this.#byName.delete(oldest);
    return draft;
  }
}

const UNKNOWN: Omit<WorkerCourse, 'worker' | 'lastEventMs'> = {
  ...{ state: 'starts', end: null, device: null, backend: null, gpuMemoryMiB: null },
  residentByteCount: null,
  ...{ job: null, lastComputeMs: null, slowJobCount: 0, refusedResultCount: 0 },
};

function admitOwn(draft: Draft, event: StampedEvent): void {
  switch (event.kind) {
    case 'worker-ready':
      return changeTo(draft, 'waits');
    case 'compute-ready': {
      const { device, backend, gpu } = event.device;
      draft.device = device === 'cpu' ? 'CPU' : (gpu?.name ?? 'GPU');
      draft.backend = backend;
      draft.gpuMemoryMiB = device === 'gpu' ? (gpu?.memoryMiB ?? null) : null;
      return;
    }
    case 'job-started':
      changeTo(draft, 'computes');
      draft.job = { jobId: event.jobId, sinceMs: event.epochMs };
      return;
    case 'job-finished':
      draft.lastComputeMs = event.computeMs;
      draft.residentByteCount = event.residentByteCount ?? draft.residentByteCount;
      return changeTo(draft, 'waits');
    case 'job-failed':
    case 'job-handed-back':
      return changeTo(draft, 'waits');
    case 'worker-resting':
      return changeTo(draft, 'rests');
    case 'worker-stopped':
      return changeTo(draft, 'stopped');
    case 'worker-exited':
      // A worker that has said that it stops exits next.
      if (draft.state === 'stopped') return;
      draft.end = event.reason ?? event.signal ?? `exit code ${event.exitCode}`;
      return changeTo(draft, 'exited');
    default:
      return;
  }
}

function changeTo(draft: Draft, state: WorkerCourse['state']): void {
  draft.state = state;
  draft.job = null;
}
