/**
 * The spans of one delivery of a job, below its outer step: how long it waited on the queue, its inputs were fetched, it
 * was computed, and its output was put. The compute process makes the span of its work itself.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { TracedOrigin } from '../../shared/queue/job-queue.js';
import {
  placeIn,
  spanBelow,
  spanIdOf,
  traceparentOf,
  type Span,
  type SpanPlace,
} from '../../shared/traces/span.js';

type TakeSpan = (span: Span) => void;

export class JobTrace {
  readonly #above: SpanPlace;
  readonly #place: SpanPlace;
  readonly #jobId: string;
  readonly #startMs: number;
  readonly #clock: Clock;
  readonly #take: TakeSpan;

  private constructor(above: SpanPlace, origin: TracedJob, clock: Clock, take: TakeSpan) {
    const { traceId } = above;
    this.#above = above;
    this.#place = { traceId, spanId: spanIdOf(traceId, above.spanId, origin.jobId) };
    this.#jobId = origin.jobId;
    const takenMs = clock.epochMs();
    // The clock of the coordinator may be ahead.
    this.#startMs = Math.min(origin.addedMs, takenMs);
    this.#clock = clock;
    this.#take = take;
    this.#phase('queue', this.#startMs, takenMs);
  }

  /** Null for a job whose trace nobody keeps. */
  static of(job: TracedJob | null, clock: Clock, take: TakeSpan | undefined): JobTrace | null {
    const above = placeIn(job?.traceparent);
    if (job === null || above === null || take === undefined) return null;
    return new JobTrace(above, job, clock, take);
  }

  /** For work in other processes. */
  get traceparent(): string {
    return traceparentOf(this.#place);
  }

  /** Work that took until now. */
  ended(name: 'fetch' | 'upload', tookMs: number): void {
    const endMs = this.#clock.epochMs();
    this.#phase(name, endMs - tookMs, endMs);
  }

  /** The span that another process has made. */
  took(span: Span): void {
    this.#take(span);
  }

  end(outcome: 'finished' | 'failed' | 'handed back', workerName: string): void {
    this.#take({
      ...{ ...this.#place, parentSpanId: this.#above.spanId, name: 'job' },
      ...{ startMs: this.#startMs, endMs: this.#clock.epochMs() },
      attributes: {
        ...{ 'qianmo.job': this.#jobId, 'qianmo.outcome': outcome },
        'qianmo.worker': workerName,
      },
    });
  }

  #phase(name: string, startMs: number, endMs: number): void {
    this.#take(spanBelow(this.#place, name, { startMs, endMs }));
  }
}

interface TracedJob extends TracedOrigin {
  readonly jobId: string;
}
