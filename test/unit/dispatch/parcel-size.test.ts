/** How many jobs travel together. Seen to fail: without the share of each worker, and without the first jobs alone. */

import { expect, test } from 'vitest';
import { parcelSize } from '../../../coordinator/dispatch/parcels/parcel-size.js';

const CASES: [
  string,
  { usualMs: number; orders: number; sent: number; workers: number },
  number,
][] = [
  [
    'nothing is known of their duration',
    { usualMs: Infinity, orders: 640, sent: 99, workers: 1 },
    1,
  ],
  ['a job fills an exchange', { usualMs: 31, orders: 640, sent: 99, workers: 1 }, 1],
  ['an exchange has room for ten', { usualMs: 3, orders: 640, sent: 99, workers: 2 }, 10],
  ['jobs take no time at all', { usualMs: 0, orders: 640, sent: 200, workers: 2 }, 32],
  ['each worker has two exchanges', { usualMs: 0, orders: 40, sent: 40, workers: 5 }, 4],
  ['there are fewer jobs than exchanges', { usualMs: 3, orders: 4, sent: 0, workers: 2 }, 1],
  ['workers are to begin', { usualMs: 3, orders: 640, sent: 0, workers: 2 }, 1],
  ['workers have begun', { usualMs: 3, orders: 640, sent: 8, workers: 2 }, 3],
  ['a lone worker begins', { usualMs: 3, orders: 4, sent: 0, workers: 1 }, 1],
  ['a lone worker has the rest at once', { usualMs: 3, orders: 4, sent: 1, workers: 1 }, 10],
  ['workers are to end together', { usualMs: 1, orders: 640, sent: 620, workers: 2 }, 5],
  ['smaller parcels would gain nothing', { usualMs: 1, orders: 640, sent: 638, workers: 2 }, 3],
  ['nobody works', { usualMs: 3, orders: 640, sent: 99, workers: 0 }, 10],
];

test.each(CASES)('%s', (_, { usualMs, orders, sent, workers }, expected) => {
  const progress = { orderCount: orders, sentCount: sent, workerCount: workers };
  expect(parcelSize({ exchangeMs: 30, usualMs }, progress)).toBe(expected);
  expect(parcelSize({ exchangeMs: 0, usualMs }, progress)).toBe(1);
});
