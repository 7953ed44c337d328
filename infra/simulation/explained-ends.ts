/** Tells whether the faults of a simulation explain that a coordinator ended without completing its run. */

import { QianmoError } from '../../shared/base/errors.js';
import { RunFencedError } from '../../shared/storage/lease.js';
import { NOT_OPENED } from './server-link.js';
import type { SimulatedProcess } from './simulated-process.js';
import { JOB_ATTEMPTS_MAX, REFUSAL_WAIT_MS } from './simulated-run.js';

/** The beats of a dead coordinator may arrive this late. */
const LATE_BEAT_MS = 30_000;
/** A command gives up after this time at the start of a run. */
const OPEN_TIMEOUT_MS = 30_000;

/** The course of one coordinator, from the start of its process to the end. */
export interface CoordinatorLife {
  readonly process: SimulatedProcess;
  readonly number: number;
  readonly startMs: number;
  endMs: number;
  epoch: number;
  hasBegun: boolean;
  /** When the server last failed to answer it or refused. */
  troubledMs: number;
  lastStoreKey: string;
  /** The epoch of its claim on the checkpoints; 0 before it has one. */
  claimEpoch: number;
  /** Failed deliveries of each job, as `outer step/job`. */
  readonly failureCountByJob: Map<string, number>;
  isCancelled: boolean;
  /** Whether it waits, as it was ordered to, before it sends the jobs of an outer step. */
  isPaused: boolean;
  /** The number of outer steps that it was ordered to do last; null if it was not. */
  extendedTo: number | null;
}

interface Circumstances {
  readonly lives: readonly CoordinatorLife[];
  readonly nowMs: number;
  readonly isAnyObjectDamaged: boolean;
  readonly storeAddress: string;
  /** Whether calls of the store are repeated while it is away, once it has answered. */
  readonly waitsForStore: boolean;
}

/** Null if the end is explained, else its description. */
export function unexplainedEnd(
  error: unknown,
  life: CoordinatorLife,
  circumstances: Circumstances,
): string | null {
  if (!(error instanceof QianmoError))
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  const { lives, nowMs, isAnyObjectDamaged, storeAddress } = circumstances;
  const others = lives.filter((other) => other !== life);
  const isExplained = (): boolean => {
    if (error instanceof RunFencedError)
      return others.some(({ number, endMs }) => number > life.number || endMs > life.startMs);
    const isOfStore = error.message.includes('simulated store');
    const isOfCheckpoints = error.report.where?.startsWith(storeAddress) === true;
    switch (error.kind) {
      case 'usage':
        return others.some(({ endMs }) => endMs > life.startMs - LATE_BEAT_MS);
      case 'transient':
        if (isOfStore && isOfCheckpoints && circumstances.waitsForStore)
          return life.lastStoreKey === '';
        if (isOfStore) return true;
        return nowMs - life.startMs >= OPEN_TIMEOUT_MS - 1_000 && !isTimedOut(error);
      case 'failed':
        return (life.failureCountByJob.get(jobIn(error)) ?? 0) >= JOB_ATTEMPTS_MAX - 1;
      case 'environment':
        return (
          error.report.what === NOT_OPENED ||
          ((error.report.where ?? '').startsWith(storeAddress) && isAnyObjectDamaged) ||
          error.message.includes('no connected worker is healthy') ||
          nowMs - life.startMs >= (life.hasBegun ? REFUSAL_WAIT_MS : OPEN_TIMEOUT_MS - 1_000)
        );
      case 'data':
        return isAnyObjectDamaged;
      case 'cancelled':
        return life.isCancelled;
      case 'interrupted':
        return false;
    }
  };
  return isExplained() ? null : `${error.message}; found ${error.report.found ?? 'nothing'}`;
}

/** The job that the error names, as `outer step/job`. */
function jobIn({ report: { where = '' } }: QianmoError): string {
  const [, outerStep, jobIndex] = /outer step (\d+), \w+ job (\d+)/.exec(where) ?? [];
  return `${outerStep}/${jobIndex}`;
}

function isTimedOut({ report }: QianmoError): boolean {
  return report.what.startsWith('an outer step did not get');
}
