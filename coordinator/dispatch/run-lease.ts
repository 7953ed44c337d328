/** The lease of a run, on the queue and next to its checkpoints: two coordinators may use different Redis servers, or none. */

import { secondsText } from '../../shared/names/counted.js';
import type { Clock } from '../../shared/base/clock.js';
import { errorOf } from '../../shared/base/errors.js';
import { type RunEventSink, noticeEvent } from '../../shared/events/run-events.js';
import { holdLease, type HeldLease, type LeaseTerms } from '../../shared/storage/lease.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { ProcessIdentity } from '../../shared/storage/process-identity.js';

const LEASE_KEY = 'coordinator.json';
const BEAT_INTERVAL_MS = 5_000;
/** Longer than a store may take for some writes in a row. */
const CLAIM_SILENCE_MS_MAX = 20_000;

interface RunLeaseOptions extends Pick<LeaseTerms, 'beatIntervalMs' | 'silenceMsMax'> {
  readonly run: string;
  /** The address of the queue or of the object. */
  readonly where: string;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal?: AbortSignal | undefined;
}

/** The terms under which a coordinator takes the lease of a run. */
export function runLeaseTerms({ run, where, sink, ...terms }: RunLeaseOptions): LeaseTerms {
  return {
    ...terms,
    onWait: ({ process: { host } }) => {
      const seconds = secondsText(terms.silenceMsMax);
      const text = `an earlier coordinator on ${host} has not given the run back (${where}); waiting up to ${seconds} for a sign of life`;
      sink(noticeEvent('lease-awaited', text));
    },
    busyError: ({ process, sinceMs }, heldRun = run) => {
      const holder = `process ${process.pid} on ${process.host}, since ${new Date(sinceMs).toISOString()}`;
      return errorOf('taken', `another coordinator works on run ${heldRun}: ${holder}`, {
        where,
        expected: 'one coordinator at a time',
        ...(heldRun === run ? {} : { found: `run ${run} asks for what run ${heldRun} has` }),
        cure: 'wait until it has finished, stop it, or give this run another name and output',
      });
    },
  };
}

interface ClaimOptions extends Omit<RunLeaseOptions, 'where' | 'beatIntervalMs' | 'silenceMsMax'> {
  /** The store for the checkpoints of this run. It must honour conditional writes. */
  readonly store: ObjectStore;
  readonly start: string;
  readonly process?: ProcessIdentity;
}

/** @throws QianmoError `taken` if another coordinator works on the run. */
export function claimRun({ store, start, process, ...options }: ClaimOptions): Promise<HeldLease> {
  const terms = runLeaseTerms({
    ...options,
    where: `${store.address}/${LEASE_KEY}`,
    ...{ beatIntervalMs: BEAT_INTERVAL_MS, silenceMsMax: CLAIM_SILENCE_MS_MAX },
  });
  return holdLease({ ...terms, store, key: LEASE_KEY, run: options.run, start, process });
}
