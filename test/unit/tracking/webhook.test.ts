/** Notices of a run: when, what, signed, and each once. */

import { expect, test } from 'vitest';
import {
  NoticeWatch,
  signatureOf,
  webhookKeyOf,
  webhookTracker,
  type Notice,
} from '../../../coordinator/tracking/webhook.js';
import { systemClock } from '../../../shared/base/clock.js';
import { httpReceiver } from '../../fixtures/tracking/http-receiver.js';
import { callAlive, outerStep } from '../../fixtures/tracking/told-events.js';
import { openedForEach } from '../../fixtures/opened.js';

const { signal } = new AbortController();
let statuses: number[] = [];
const receiver = openedForEach(() => httpReceiver(() => ({ status: statuses.shift() ?? 200 })));

const key = webhookKeyOf('a secret');
const failed: Notice = {
  id: 'notice1',
  ...{ notice: 'failed', epochMs: 1_000, outerStep: 7, outerSteps: 10, queryLoss: 0.5 },
  ...{ reason: 'the disk is full', digest: 'abc', report: null },
};

const tracker = () =>
  webhookTracker({
    ...{ url: `${receiver.url}/secret/path`, key, clock: systemClock },
    tracked: { call: 'train', run: 'r', output: 'out' },
    onSent: () => undefined,
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
  await tracker().take([failed], signal);
  const [request] = receiver.received;
  expect(JSON.parse(request?.body ?? '')).toMatchObject({
    ...{ schemaVersion: 1, notice: 'failed', call: 'train', run: 'r', output: 'out', outerStep: 7 },
    text: 'qianmo: run r has failed at outer step 7 of 10: the disk is full',
  });
  const { 'webhook-id': id, 'webhook-timestamp': time, ...headers } = request?.headers ?? {};
  const content = `${String(id)}.${String(time)}.${request?.body ?? ''}`;
  expect(headers['webhook-signature']).toBe(signatureOf(key, content));
});

test('a notice that was not taken is sent again with its id, and others not', async () => {
  const webhook = tracker();
  const notices = [{ ...failed, id: 'notice0' }, failed];
  statuses = [200, 503];
  await expect(webhook.take(notices, signal)).rejects.toThrow('status 503');
  await webhook.take(notices, signal);
  const ids = receiver.received.map(({ headers }) => headers['webhook-id']);
  expect(ids).toEqual(['notice0', 'notice1', 'notice1']);
});
