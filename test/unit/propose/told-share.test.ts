// How much of a label a listed value tells, with numbers worked by hand.
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { openDuckSession } from '../../../coordinator/logs/duckdb-session.js';
import { measureListedToldShare } from '../../../coordinator/prepare/row-sample.js';
import { openedOnce } from '../../fixtures/opened.js';

const session = openedOnce(() => openDuckSession(tmpdir(), 256, new AbortController().signal));

/** 80 rows of which each half has 20 of either value. */
const isSecond = Array.from({ length: 80 }, (_, row) => Math.floor(row / 2) % 2);

test.each([
  ['texts', isSecond.map((second) => (second === 1 ? 'long' : 'short'))],
  ['numbers', isSecond.map((second) => (second === 1 ? 30.5 : null))],
])('%s that say the label: 20 rows and 20 at the rate of all give 0.75', async (_, values) => {
  const told = await measureListedToldShare({ values, targets: isSecond, loss: 'binary' }, session);
  expect(told).toBeCloseTo(1 - Math.log(0.75) / Math.log(0.5), 9);
});

test('of a value, the squared error falls to a quarter', async () => {
  // The mean is 7, both values are 2 from it, and half of that is learned.
  const targets = isSecond.map((second) => (second === 1 ? 9 : 5));
  const told = await measureListedToldShare(
    { values: isSecond, targets, loss: 'squared' },
    session,
  );
  expect(told).toBeCloseTo(0.75, 9);
});

test('a value that says nothing, one of a row alone, and labels that do not differ', async () => {
  const share = (values: readonly (string | null)[], targets: readonly (number | null)[]) =>
    measureListedToldShare({ values, targets, loss: 'binary' }, session);
  expect(
    await share(
      isSecond.map(() => 'same'),
      isSecond,
    ),
  ).toBe(0);
  expect(
    await share(
      isSecond.map((_, row) => `id ${row}`),
      isSecond,
    ),
  ).toBe(0);
  const known = isSecond.map((second, row) => (row % 8 < 2 ? second : null));
  expect(
    await share(
      isSecond.map(() => 'same'),
      known,
    ),
  ).toBe(0);
});
