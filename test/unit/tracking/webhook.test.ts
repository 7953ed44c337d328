/** Notices of a run: when, what, signed, and each once. */

import { afterEach, beforeEach, expect, test } from 'vitest';
import { TrackingMemory } from '../../../coordinator/tracking/tracker.js';
import { webhookKeyOf } from '../../../coordinator/tracking/tracking-secrets.js';
import {
  NoticeWatch,
  signatureOf,
  ToldNoticesSchema,
  WebhookTracker,
  type Notice,
} from '../../../coordinator/tracking/webhook-tracker.js';
import { systemClock } from '../../../shared/base/clock.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { httpReceiver, type HttpReceiver } from '../../fixtures/tracking/http-receiver.js';
import { callAlive, outerStep, runFailed } from '../../fixtures/tracking/told-events.js';

const { signal } = new AbortController();
let statuses: number[];
let receiver: HttpReceiver;
beforeEach(async () => {
  statuses = [];
  receiver = await httpReceiver(() => ({ status: statuses.shift() ?? 200 }));
});
afterEach(() => receiver.close());

const key = webhookKeyOf('a secret');
const failed: Notice = {
  ...{ notice: 'failed', epochMs: 1_000, outerStep: 7, outerSteps: 10, queryLoss: 0.5 },
  ...{ reason: 'the disk is full', digest: 'abc', report: null },
};

function trackerOn(store: MemoryObjectStore | null, isFresh = false): WebhookTracker {
  return new WebhookTracker({
    ...{ url: `${receiver.url}/secret/path`, key, isFresh, clock: systemClock },
    tracked: { call: 'train', run: 'r', output: 'out' },
    memory: store === null ? null : new TrackingMemory(store, 'notices', ToldNoticesSchema),
    onSent: () => undefined,
  });
}

test('the watch notices a failure once, and an interruption never', () => {
  const watch = new NoticeWatch();
  expect(watch.admit(outerStep(7))).toBeNull();
  expect(watch.admit(runFailed('the disk is full'))).toMatchObject({
    ...{ notice: 'failed', outerStep: 7, outerSteps: 10, reason: 'the disk is full' },
  });
  expect(watch.admit(runFailed('the disk is full'))).toBeNull();
  for (const failure of ['interrupted', 'cancelled'])
    expect(new NoticeWatch().admit(runFailed('stopped', failure))).toBeNull();
  expect(watch.endedAt(0, 'failed')).toBeNull();
  expect(watch.endedAt(0, 'finished')).toMatchObject({ notice: 'finished', outerStep: 7 });
});

test('the watch notices a stall once, and the next one when the run has moved', () => {
  const watch = new NoticeWatch();
  const startMs = outerStep(1).epochMs;
  watch.admit(callAlive(startMs - 1_000));
  watch.admit(outerStep(1));
  expect(watch.stalledAt(startMs + 120_000)).toBeNull();
  expect(watch.stalledAt(startMs + 120_001)).toMatchObject({ notice: 'stalled', outerStep: 1 });
  expect(watch.stalledAt(startMs + 500_000)).toBeNull();
  watch.admit({ ...outerStep(2), epochMs: startMs + 500_000 });
  expect(watch.stalledAt(startMs + 600_000)).toBeNull();
  // Twenty of its usual outer steps of 500 s.
  expect(watch.stalledAt(startMs + 500_000 + 20 * 500_000)).toBeNull();
  expect(watch.stalledAt(startMs + 500_001 + 20 * 500_000)).toMatchObject({ outerStep: 2 });
});

test('a notice is JSON with an id and a signature over it', async () => {
  await trackerOn(null).take([failed], signal);
  const [request] = receiver.received;
  expect(JSON.parse(request?.body ?? '')).toMatchObject({
    ...{ schemaVersion: 1, notice: 'failed', call: 'train', run: 'r', output: 'out', outerStep: 7 },
    text: 'qianmo: run r has failed at outer step 7 of 10: the disk is full',
  });
  const { 'webhook-id': id, 'webhook-timestamp': time, ...headers } = request?.headers ?? {};
  const content = `${String(id)}.${String(time)}.${request?.body ?? ''}`;
  expect(headers['webhook-signature']).toBe(signatureOf(key, content));
});

test('the signature is that of the example of Standard Webhooks', () => {
  const content = 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}';
  const signingKey = webhookKeyOf('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
  expect(signatureOf(signingKey, content)).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
});

test('a notice of one outer step is told once, also by a process that resumes the run', async () => {
  const store = new MemoryObjectStore();
  await trackerOn(store).take([failed, failed], signal);
  await trackerOn(store).take([failed], signal);
  expect(receiver.received).toHaveLength(1);
  await trackerOn(store).take(
    [
      { ...failed, notice: 'stalled' },
      { ...failed, outerStep: 8 },
    ],
    signal,
  );
  expect(receiver.received).toHaveLength(3);
  await trackerOn(store, true).take([failed], signal);
  expect(receiver.received).toHaveLength(4);
});

test('a notice that was not taken is sent again with its id', async () => {
  const store = new MemoryObjectStore();
  statuses = [503];
  await expect(trackerOn(store).take([failed], signal)).rejects.toThrow('status 503');
  await trackerOn(store).take([failed], signal);
  const ids = receiver.received.map(({ headers }) => headers['webhook-id']);
  expect(new Set(ids).size).toBe(1);
  expect(ids).toHaveLength(2);
});

test('a refusal says neither path nor secret; a call that never trained leaves no file', async () => {
  const store = new MemoryObjectStore();
  statuses = [410];
  const tracker = trackerOn(store);
  const early = { ...failed, outerSteps: null };
  await expect(tracker.take([early], signal)).rejects.toThrow(/^status 410$/);
  expect(tracker.address).toBe(receiver.url);
  expect(await store.list('')).toEqual([]);
});
