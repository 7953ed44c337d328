/**
 * Sends notices to a webhook, each once. What was told is remembered in the output of a training, so that a run that
 * fails in every attempt at the same outer step is told once. Headers and signature are those of Standard Webhooks
 * (standardwebhooks.com), for which receivers have libraries.
 */

import { createHmac, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../../shared/base/clock.js';
import { freshNonce } from '../../shared/base/nonce.js';
import { noticeEvent, type RunEvent, type StampedEvent } from '../../shared/events/run-events.js';
import { thisProcess } from '../../shared/storage/process-identity.js';
import { exchanged } from '../../shared/base/http-exchange.js';
import {
  TrackerRefusal,
  type TrackedRun,
  type Tracker,
  type TrackingMemory,
  type CallEnding,
} from './tracker.js';
import { isInterruptionKind } from '../../shared/base/errors.js';
import type { NoticeKind } from '../../shared/names/event-terms.js';
import { runStateOf } from '../record/run-state.js';
import { RunReducer, type RunView } from '../../shared/events/run-reducer.js';

/** The latest notice of each kind: that of a later outer step takes its place. */
export const ToldNoticesSchema = z.record(
  z.string(),
  z.strictObject({ id: z.string(), outerStep: z.int().nonnegative(), isTold: z.boolean() }),
);
type ToldNotices = z.infer<typeof ToldNoticesSchema>;

interface WebhookOptions {
  readonly url: string;
  /** Null: notices are not signed. */
  readonly key: KeyObject | null;
  readonly tracked: TrackedRun;
  /** Null where a call cannot be resumed. */
  readonly memory: TrackingMemory<ToldNotices> | null;
  /** The call begins the run anew: what was told before does not matter. */
  readonly isFresh: boolean;
  readonly onSent: (event: RunEvent) => void;
  readonly clock: Clock;
}

export class WebhookTracker implements Tracker<Notice> {
  readonly name = 'webhook';
  /** The host alone: the path is often the password. */
  readonly address: string;
  readonly intervalMs = 0;
  readonly #options: WebhookOptions;
  #told: ToldNotices | null = null;

  constructor(options: WebhookOptions) {
    this.#options = options;
    this.address = new URL(options.url).origin;
  }

  async take(notices: readonly Notice[], signal: AbortSignal): Promise<void> {
    const { memory, isFresh } = this.#options;
    this.#told ??= (isFresh ? null : await memory?.recall()) ?? {};
    for (const notice of notices) await this.#tellOnce(notice, this.#told, signal);
  }

  end(): Promise<void> {
    return Promise.resolve();
  }

  async #tellOnce(notice: Notice, told: ToldNotices, signal: AbortSignal): Promise<void> {
    const { onSent } = this.#options;
    // A call that was refused before it trained leaves every file as it was.
    const memory = notice.outerSteps === null ? null : this.#options.memory;
    const earlier = told[notice.notice];
    const isSame = earlier?.outerStep === notice.outerStep;
    if (isSame && earlier.isTold) return;
    // Kept before it is sent: if this process is killed meanwhile, the next one sends it under the same id.
    const id = isSame ? earlier.id : freshNonce();
    const fact = { id, outerStep: notice.outerStep };
    told[notice.notice] = { ...fact, isTold: false };
    await memory?.keep(told);
    await this.#send(id, notice, signal);
    told[notice.notice] = { ...fact, isTold: true };
    await memory?.keep(told);
    onSent(noticeEvent('notice-sent', `told ${this.address}: ${notice.notice}`));
  }

  async #send(id: string, notice: Notice, signal: AbortSignal): Promise<void> {
    const { url, key, clock } = this.#options;
    const body = JSON.stringify(bodyOf(notice, this.#options.tracked));
    const timestamp = Math.floor(clock.epochMs() / 1_000);
    const headers = {
      ...{ 'content-type': 'application/json', 'webhook-id': id },
      'webhook-timestamp': String(timestamp),
      ...(key === null
        ? {}
        : { 'webhook-signature': signatureOf(key, `${id}.${timestamp}.${body}`) }),
    };
    const { status } = await exchanged({ method: 'POST', url, headers, body }, { clock, signal });
    if (status >= 200 && status < 300) return;
    const isFinal = status >= 400 && status < 500 && status !== 408 && status !== 429;
    throw isFinal ? new TrackerRefusal(`status ${status}`) : new Error(`status ${status}`);
  }
}

export function signatureOf(key: KeyObject, content: string): string {
  return `v1,${createHmac('sha256', key).update(content).digest('base64')}`;
}

function bodyOf(notice: Notice, { call, run, output }: TrackedRun): Record<string, unknown> {
  const { epochMs, ...facts } = notice;
  const at = new Date(epochMs).toISOString();
  const { host } = thisProcess();
  return { schemaVersion: 1, ...facts, call, run, output, host, at, text: textOf(notice, run) };
}

/** Chat programs show the field `text`. */
function textOf({ notice, outerStep, outerSteps, reason, report }: Notice, run: string): string {
  const step = outerSteps === null ? '' : ` at outer step ${outerStep} of ${outerSteps}`;
  const details = [reason, report].filter((each) => each !== null);
  return [`qianmo: run ${run} has ${notice}${step}`, ...details].join(': ');
}

/**
 * A moment at which somebody wants to be told: the run has finished, failed or stalled. An interruption is none,
 * since whoever stops a run knows it, and one that a machine preempted goes on.
 */
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
