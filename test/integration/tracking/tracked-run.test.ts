/** Trackers of a real training: those that hang cost it nothing, and a webhook hears of each end once. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { parseEventLine } from '../../../shared/events/event-lines.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { httpReceiver, type HttpReceiver } from '../../fixtures/tracking/http-receiver.js';
import { codeOf } from '../../../test/fixtures/told.js';

const room = openedOnce(commandRoom);
let receiver: HttpReceiver | null = null;
beforeAll(async () => {
  await room.done(['prepare', await room.config('prepared')]);
});
afterEach(async () => {
  await receiver?.close();
  receiver = null;
});

const digestOf = (output: string): unknown => (JSON.parse(output) as { digest: unknown }).digest;

async function loggedEvents(run: string): Promise<StampedEvent[]> {
  const text = await readFile(join(room.path(run), 'events', 'events-000001.ndjson'), 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => parseEventLine(line));
}

const stepsOf = (events: readonly StampedEvent[]): number[] =>
  events.flatMap((event) => (event.kind === 'outer-step' ? [event.outerStep] : []));

it('gets the same digest and the same steps beside trackers that never answer', async () => {
  const hanging = await httpReceiver(() => null);
  receiver = hanging;
  const followed = await room.config('followed', (config) => {
    Object.assign(config, { tracking: { mlflow: { url: hanging.url }, webhook: {} } });
  });
  const train = ['--format', 'json'];
  const alone = await room.done(['train', await room.config('alone'), ...train]);
  const environment = { QIANMO_WEBHOOK_URL: `${hanging.url}/a-secret-path` };
  const beside = await room.start(['train', followed, ...train], environment).ended;
  expect(beside.exitCode, beside.diagnostics).toBe(0);
  expect(digestOf(beside.output)).toEqual(digestOf(alone));
  const events = await loggedEvents('followed');
  expect(stepsOf(events)).toEqual(stepsOf(await loggedEvents('alone')));
  const missed = events.filter((event) => codeOf(event) === 'tracker-missed');
  expect(missed).toHaveLength(2);
  expect(events.at(-1)).toMatchObject({ kind: 'call-ended' });
  expect(hanging.received.length).toBeGreaterThan(0);
  const texts = beside.diagnostics + JSON.stringify(events);
  expect(texts).not.toContain('a-secret-path');
});

it('refuses a tracker without an address before anything is written', async () => {
  const run = await room.config('nowhere', (config) => {
    Object.assign(config, { tracking: { webhook: {} } });
  });
  await room.refused(['train', run], {
    ...{ exitCode: 2, what: /not completely described/, where: /tracking\.webhook/ },
    cure: /QIANMO_WEBHOOK_URL/,
  });
});
