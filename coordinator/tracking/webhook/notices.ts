/**
 * The moments at which somebody wants to be told: the run has finished, failed or stalled. An interruption is none,
 * since whoever stops a run knows it, and one that a machine preempted goes on.
 */

import { isInterruptionKind } from '../../../shared/base/errors.js';
import type { NoticeKind } from '../../../shared/names/event-terms.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { runStateOf } from '../../record/run-state.js';
import { RunReducer, type RunView } from '../../../shared/events/run-reducer.js';
import type { CallEnding } from '../feed/tracker.js';

export interface Notice {
  readonly notice: NoticeKind;
  readonly epochMs: number;
  readonly outerStep: number;
  /** Null where the call has not trained. */
  readonly outerSteps: number | null;
  readonly queryLoss: number | null;
  /** The reason of a failure; null otherwise. */
  readonly reason: string | null;
  /** The digest of the last checkpoint. */
  readonly digest: string | null;
  readonly report: string | null;
}

/** Pure: time comes with the questions. A stalled run is noticed once, and again if it moves and stalls later. */
export class NoticeWatch {
  readonly #view = new RunReducer();
  #report: string | null = null;
  #failedOuterStep: number | null = null;
  #stalledOuterStep: number | null = null;

  /** The notice that the event is reason for; null if it is none. */
  admit(event: StampedEvent): Notice | null {
    this.#view.admit(event);
    if (event.kind === 'report-written') this.#report = event.address;
    if (event.kind !== 'run-failed' || isInterruptionKind(event.failure)) return null;
    const notice = this.#noticeOf('failed', event.epochMs, event.reason);
    if (this.#failedOuterStep === notice.outerStep) return null;
    this.#failedOuterStep = notice.outerStep;
    return notice;
  }

  stalledAt(nowMs: number): Notice | null {
    const state = runStateOf(this.#view.view(), { nowMs, livenessOf: () => 'runs' });
    if (state !== 'stalled') return null;
    const notice = this.#noticeOf('stalled', nowMs, null);
    if (this.#stalledOuterStep === notice.outerStep) return null;
    this.#stalledOuterStep = notice.outerStep;
    return notice;
  }

  endedAt(nowMs: number, ending: CallEnding): Notice | null {
    return ending === 'finished' ? this.#noticeOf('finished', nowMs, null) : null;
  }

  #noticeOf(notice: NoticeKind, epochMs: number, reason: string | null): Notice {
    const { training, checkpoint }: RunView = this.#view.view();
    return {
      ...{ notice, epochMs, reason, report: this.#report },
      outerStep: training?.outerStep ?? checkpoint?.outerStep ?? 0,
      outerSteps: training?.outerSteps ?? null,
      queryLoss: training?.queryLoss ?? null,
      digest: checkpoint?.digest ?? null,
    };
  }
}
