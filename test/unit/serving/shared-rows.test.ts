/** The parent of several processes tells each of the rows that any has put, and answers who has put them alone. */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { openLiveRows } from '../../../worker/serving/adaptation/live-rows-log.js';
import { storedRowsOf } from '../../../worker/serving/adaptation/live-rows.js';
import type { RowsOrder } from '../../../worker/serving/processes/rows-messages.js';
import { SharedRows } from '../../../worker/serving/processes/shared-rows.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const ROWS = storedRowsOf({ key: 'a', segment: null, rows: [] });

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
  const shared = new SharedRows(log, systemClock);
  const [first, second] = [joined(shared, 0), joined(shared, 1)];
  await shared.hear(0, { kind: 'put', request: 7, rows: ROWS });
  const { text } = ROWS;
  expect(first.heard).toEqual([
    { kind: 'stored', order: 0, request: 7, text: '' },
    { kind: 'put', request: 7, outcome: 'stored' },
  ]);
  expect(second.heard).toEqual([{ kind: 'stored', order: 0, request: null, text }]);
  await log.close();
  await folder.remove();
});

test('a process that takes the place of a killed one is told the text, and not answered', async () => {
  const folder = await temporaryFolder();
  const log = await openLiveRows(join(folder.path, 'rows.jsonl'));
  const shared = new SharedRows(log, systemClock);
  const killed = joined(shared, 0);
  const answered = shared.hear(0, { kind: 'put', request: 7, rows: ROWS });
  killed.dies();
  shared.leave(0);
  const follower = joined(shared, 0);
  await answered;
  expect(killed.heard).toEqual([]);
  expect(follower.heard).toEqual([{ kind: 'stored', order: 0, request: null, text: ROWS.text }]);
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
