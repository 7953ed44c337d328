/** The parent of several processes tells each of the rows that any has put, and answers who has put them alone. */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import type { AdaptEngine, AdaptInput } from '../../../worker/serving/adaptation/adapt-jobs.js';
import { openLiveRows } from '../../../worker/serving/adaptation/live-rows-log.js';
import { storedRowsOf } from '../../../worker/serving/adaptation/live-rows.js';
import type { RowsOrder } from '../../../worker/serving/processes/rows-messages.js';
import { RowsOfParent } from '../../../worker/serving/processes/rows-of-parent.js';
import { SharedRows } from '../../../worker/serving/processes/shared-rows.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const ROWS = storedRowsOf({ key: 'a', segment: null, rows: [] });
const adapted = { bundle: 'b', output: Uint8Array.of(1) };

/** Adapts nothing, and says which frozen inputs it was given. */
const given: (Uint8Array | null)[] = [];
const engine: AdaptEngine = {
  start: () => Promise.resolve(),
  execute: ({ frozen }) => {
    given.push(frozen);
    return Promise.resolve({ output: Uint8Array.of(7) });
  },
};

/** A process that serves what it is told at once, unless it has died. */
function joined(shared: SharedRows, place: number): { heard: RowsOrder[]; dies(): void } {
  const heard: RowsOrder[] = [];
  let isDead = false;
  shared.join(place, (order) => {
    heard.push(order);
    if (order.kind === 'stored' && !isDead)
      void shared.hear(place, { kind: 'served', order: order.order });
  });
  return { heard, dies: () => (isDead = true) };
}

test('whoever puts rows is told without their text, the others with it', async () => {
  const folder = await temporaryFolder();
  const log = await openLiveRows(join(folder.path, 'rows.jsonl'));
  const shared = new SharedRows(log, engine, systemClock);
  const [first, second] = [joined(shared, 0), joined(shared, 1)];
  await shared.hear(0, { kind: 'put', request: 7, rows: ROWS, adapted });
  const { text } = ROWS;
  expect(first.heard).toEqual([
    { kind: 'stored', order: 0, request: 7, text: '', adapted: null },
    { kind: 'put', request: 7, outcome: 'stored' },
  ]);
  expect(second.heard).toEqual([{ kind: 'stored', order: 0, request: null, text, adapted }]);
  await log.close();
  await folder.remove();
});

test('a process that takes the place of a killed one is told the text, and not answered', async () => {
  const folder = await temporaryFolder();
  const log = await openLiveRows(join(folder.path, 'rows.jsonl'));
  const shared = new SharedRows(log, engine, systemClock);
  const killed = joined(shared, 0);
  const answered = shared.hear(0, { kind: 'put', request: 7, rows: ROWS, adapted });
  killed.dies();
  shared.leave(0);
  const follower = joined(shared, 0);
  await answered;
  expect(killed.heard).toEqual([]);
  expect(follower.heard).toEqual([
    { kind: 'stored', order: 0, request: null, text: ROWS.text, adapted },
  ]);
  await log.close();
  await folder.remove();
});

test('rows are not acknowledged once another process has the folder', async () => {
  const folder = await temporaryFolder();
  const path = join(folder.path, 'rows.jsonl');
  const log = await openLiveRows(path, () =>
    Promise.reject(new QianmoError({ kind: 'usage', what: 'another has it' })),
  );
  await expect(log.put(ROWS, () => expect.unreachable())).rejects.toThrow('another has it');
  await log.close();
  expect((await stat(path)).size).toBe(0);
  await folder.remove();
});

test('a process sends the frozen input of its jobs only if the parent lacks it', async () => {
  const folder = await temporaryFolder();
  const log = await openLiveRows(join(folder.path, 'rows.jsonl'));
  const shared = new SharedRows(log, engine, systemClock);
  given.length = 0;
  const sent: (Uint8Array | null)[] = [];
  const opened = [0, 1].map((place) => {
    const rows = new RowsOfParent((reply) => {
      if (reply.kind === 'adapt') sent.push(reply.input.frozen);
      void shared.hear(place, reply);
    });
    shared.join(place, (order) => rows.hear(order));
    return rows;
  });
  const frozen = Uint8Array.of(3);
  // A job of which the parent reads nothing else.
  const input = { job: { frozen: blobRefOf(frozen) }, frozen } as unknown as AdaptInput;
  for (const rows of [...opened, ...opened])
    expect((await rows.execute(input)).output).toEqual(Uint8Array.of(7));
  expect(sent).toEqual([null, frozen, null, null, null]);
  expect(given).toEqual([frozen, frozen, frozen, frozen]);
  await log.close();
  await folder.remove();
});
