/**
 * Notices of a run that has finished, failed or stalled, sent to a webhook. Headers and signature are those of Standard
 * Webhooks (standardwebhooks.com), for which receivers have libraries.
 */

import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import type { Clock } from '../../shared/base/clock.js';
import { isInterruptionKind } from '../../shared/base/errors.js';
import { exchange } from '../../shared/base/http-exchange.js';
import { freshNonce } from '../../shared/base/nonce.js';
import { noticeEvent, type RunEvent, type StampedEvent } from '../../shared/events/run-events.js';
import { RunReducer } from '../../shared/events/run-reducer.js';
import type { NoticeKind } from '../../shared/names/event-terms.js';
import { thisProcess } from '../../shared/storage/process-identity.js';
import { runStateOf } from '../record/run-status.js';
import { TrackerRefusal, type TrackedRun, type Tracker } from './tracker-feed.js';

/** An interruption is no reason for a notice: whoever stops a run knows it, and a preempted one goes on. */
export interface Notice {
  /** Every attempt to send it has this id. */
  readonly id: string;
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

interface WebhookOptions {
  readonly url: string;
  /** Null: notices are not signed. */
  readonly key: KeyObject | null;
  readonly tracked: TrackedRun;
  readonly onSent: (event: RunEvent) => void;
  readonly clock: Clock;
}

export function webhookTracker(options: WebhookOptions): Tracker<Notice> {
  const { url, key, tracked, onSent, clock } = options;
  // The host alone: the path is often the password.
  const address = new URL(url).origin;
  const sent = new Set<string>();
  const send = async (notice: Notice, signal: AbortSignal): Promise<void> => {
    const body = JSON.stringify(bodyOf(notice, tracked));
    const timestamp = String(Math.floor(clock.epochMs() / 1_000));
    const content = `${notice.id}.${timestamp}.${body}`;
    const headers = {
      ...{ 'content-type': 'application/json', 'webhook-id': notice.id },
      'webhook-timestamp': timestamp,
      ...(key === null ? {} : { 'webhook-signature': signatureOf(key, content) }),
    };
    const { status } = await exchange({ method: 'POST', url, headers, body }, { clock, signal });
    if (status >= 200 && status < 300) return;
    const isFinal = status >= 400 && status < 500 && status !== 408 && status !== 429;
    throw isFinal ? new TrackerRefusal(`status ${status}`) : new Error(`status ${status}`);
  };
  return {
    ...{ name: 'webhook', address },
    take: async (notices, signal) => {
      for (const notice of notices.filter(({ id }) => !sent.has(id))) {
        await send(notice, signal);
        sent.add(notice.id);
        onSent(noticeEvent('notice-sent', `told ${address}: ${notice.notice}`));
      }
    },
  };
}

/** @param secret as receivers have it; after `whsec_` it is base64. */
export function webhookKeyOf(secret: string): KeyObject {
  const [, encoded] = /^whsec_(.*)$/.exec(secret) ?? [];
  return encoded === undefined
    ? createSecretKey(secret, 'utf8')
    : createSecretKey(encoded, 'base64');
}

export function signatureOf(key: KeyObject, content: string): string {
  return `v1,${createHmac('sha256', key).update(content).digest('base64')}`;
}

function bodyOf(
  { epochMs, id: _id, ...facts }: Notice,
  { call, run, output }: TrackedRun,
): Record<string, unknown> {
  const { notice, outerStep, outerSteps, reason, report } = facts;
  const step = outerSteps === null ? '' : ` at outer step ${outerStep} of ${outerSteps}`;
  const details = [reason, report].filter((each) => each !== null);
  // Chat programs show the field `text`.
  const text = [`qianmo: run ${run} has ${notice}${step}`, ...details].join(': ');
  const at = new Date(epochMs).toISOString();
  return { schemaVersion: 1, ...facts, call, run, output, host: thisProcess().host, at, text };
}

/** Pure: time comes with the questions. A stalled run is noticed once, and again if it moves and stalls later. */
export class NoticeWatch {
  readonly #run = new RunReducer();
  #report: string | null = null;
  #failedOuterStep: number | null = null;
  #stalledOuterStep: number | null = null;

  /** The notice that the event is reason for; null if it is none. */
  admit(event: StampedEvent): Notice | null {
    this.#run.admit(event);
    if (event.kind === 'report-written') this.#report = event.address;
    if (event.kind !== 'run-failed' || isInterruptionKind(event.failure)) return null;
    const notice = this.#noticeOf('failed', event.epochMs, event.reason);
    if (this.#failedOuterStep === notice.outerStep) return null;
    this.#failedOuterStep = notice.outerStep;
    return notice;
  }

  stalledAt(nowMs: number): Notice | null {
    const state = runStateOf(this.#run.view(), { nowMs, livenessOf: () => 'runs' });
    if (state !== 'stalled') return null;
    const notice = this.#noticeOf('stalled', nowMs);
    if (this.#stalledOuterStep === notice.outerStep) return null;
    this.#stalledOuterStep = notice.outerStep;
    return notice;
  }

  finishedAt(nowMs: number): Notice {
    return this.#noticeOf('finished', nowMs);
  }

  #noticeOf(notice: NoticeKind, epochMs: number, reason: string | null = null): Notice {
    const { training, checkpoint } = this.#run.view();
    return {
      ...{ id: freshNonce(), notice, epochMs, reason, report: this.#report },
      outerStep: training?.outerStep ?? checkpoint?.outerStep ?? 0,
      outerSteps: training?.outerSteps ?? null,
      queryLoss: training?.queryLoss ?? null,
      digest: checkpoint?.digest ?? null,
    };
  }
}
