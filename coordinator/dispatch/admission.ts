/**
 * Decides which results of one outer step count. Every dispatcher judges its deliveries here, so
 * that a result of another step, a second result and a damaged blob are refused in the same way.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { RunEventOf, RunEventSink } from '../../shared/events/run-events.js';
import { taskCountOf } from '../../shared/queue/protocol.js';
import { FingerprintDemand } from './machine-choice.js';
import type { Admitted, DeliveredResult, JobOrder, ReadResult, Rejection } from './dispatcher.js';

export interface AdmissionRecord {
  readonly rejections: Map<Rejection, number>;
  readonly fingerprints: FingerprintDemand;
  /** Events of the dispatcher go through it, since a result is told at once after `workers-missing`. */
  readonly sink: RunEventSink;
  readonly admitted: (counts: Omit<RunEventOf<'results-admitted'>, 'kind'>) => void;
}

const ADMITTED_INTERVAL_MS = 10_000;

export function admissionRecord(told: RunEventSink, clock: Clock): AdmissionRecord {
  let nextMs = clock.monotonicMs() + ADMITTED_INTERVAL_MS;
  const sink: RunEventSink = (event, source) => {
    if (event.kind === 'workers-missing') nextMs = Number.NEGATIVE_INFINITY;
    told(event, source);
  };
  return {
    ...{ rejections: new Map(), fingerprints: new FingerprintDemand(sink), sink },
    admitted: (counts) => {
      const nowMs = clock.monotonicMs();
      if (nowMs < nextMs) return;
      nextMs = nowMs + ADMITTED_INTERVAL_MS;
      sink({ kind: 'results-admitted', ...counts });
    },
  };
}

interface ResultOrigin {
  readonly outerStep: number;
  readonly jobIndex: number;
  readonly worker: string;
}

export class Admission<Value extends object> {
  readonly #read: ReadResult<Value>;
  readonly #record: AdmissionRecord;
  readonly #orderByJobIndex: ReadonlyMap<number, JobOrder>;
  readonly #admitted = new Set<number>();

  constructor(orders: readonly JobOrder[], read: ReadResult<Value>, record: AdmissionRecord) {
    this.#read = read;
    this.#record = record;
    this.#orderByJobIndex = new Map(orders.map((order) => [order.job.jobIndex, order]));
  }

  get openCount(): number {
    return this.#orderByJobIndex.size - this.#admitted.size;
  }

  /** Admits the result, or counts and returns the reason for refusing it. */
  judge(delivered: DeliveredResult): Admitted<Value> | Rejection {
    const judged = this.#judged(delivered);
    if (typeof judged === 'string') this.refuse(delivered.result, judged);
    else {
      this.#record.fingerprints.take(judged.result);
      const { jobIndex } = judged.result;
      this.#admitted.add(jobIndex);
      this.#record.admitted({
        outerStep: judged.result.outerStep,
        ...{ admittedJobCount: this.#admitted.size, jobCount: this.#orderByJobIndex.size },
      });
    }
    return judged;
  }

  refuse({ outerStep, jobIndex, worker }: ResultOrigin, rejection: Rejection): void {
    const { rejections, sink } = this.#record;
    rejections.set(rejection, (rejections.get(rejection) ?? 0) + 1);
    sink({ kind: 'result-refused', outerStep, jobIndex, fromWorker: worker, rejection });
  }

  #judged(delivered: DeliveredResult): Admitted<Value> | Rejection {
    const { result, output } = delivered;
    const job = this.#orderByJobIndex.get(result.jobIndex)?.job;
    if (job === undefined) return 'not_of_this_step';
    if (result.runId !== job.runId || result.outerStep !== job.outerStep) return 'not_of_this_step';
    if (this.#admitted.has(result.jobIndex)) return 'duplicate';
    if (!this.#record.fingerprints.admits(job, result)) return 'other_fingerprint';
    if (output.byteLength === 0 || output.byteLength !== result.output.byteCount)
      return 'wrong_blob';
    if (result.taskCount !== taskCountOf(job)) return 'layout_mismatch';
    const value = this.#read(delivered);
    return typeof value === 'string' ? value : { result, value };
  }
}
