import { expect, test } from 'vitest';
import {
  intervalOf,
  lossesOf,
  ONE_LOOK,
  PairedSums,
} from '../../../coordinator/scoring/served-losses.js';
import { deviationsAtAnyLook } from '../../../coordinator/scoring/experiment.js';
import { randomStream } from '../../../shared/base/random.js';

const rows = [
  { click: 1, value: 0 },
  { click: 0, value: 0 },
  { click: 0, value: 14 },
];

test('a loss is the logloss of a click, or the squared error of a value in deviations', () => {
  const predictions = {
    expected: Float64Array.of(0.25, 0.25, 10),
    deviations: Float64Array.of(NaN, NaN, 2),
  };
  expect([...lossesOf(predictions, rows)]).toEqual([Math.log(4), -Math.log(0.75), 4]);
  const rounded = { expected: Float64Array.of(0), deviations: Float64Array.of(NaN) };
  expect(lossesOf(rounded, rows.slice(0, 1))[0]).toBeCloseTo(12 * Math.log(10), 9);
});

test('the interval is over adgroups, and rows that one of both leaves out count for neither', () => {
  const sums = new PairedSums();
  for (const [adgroup, loss, against] of [
    ['a', 1, 0.5],
    ['a', 2, 1.5],
    ['b', 1, 1.25],
    ['b', NaN, 9],
  ] as const)
    sums.add(adgroup, loss, against);
  const means = sums.means();
  // The difference is 0.25 a row. Adgroup a is 0.5 above it, and b 0.5 below: sqrt(2 * (0.25 + 0.25)) / 3.
  expect(means).toMatchObject({ rowCount: 3, adgroupCount: 2, loss: 4 / 3 });
  expect(means.lossAgainst).toBeCloseTo(3.25 / 3, 12);
  expect(means.standardError).toBeCloseTo(1 / 3, 12);
  expect(intervalOf(means, 2)[0]).toBeCloseTo(0.25 - 2 / 3, 12);
});

test('one adgroup alone decides nothing', () => {
  const sums = new PairedSums();
  sums.add('a', 9, 1);
  expect(intervalOf(sums.means(), ONE_LOOK)).toEqual([-Infinity, Infinity]);
});

test('bundles that are alike are told apart at any of many looks in fewer than 5 % of runs', () => {
  const [runCount, lookCount, adgroupCount] = [400, 60, 50];
  const wrong = { once: 0, many: 0 };
  for (let run = 0; run < runCount; run += 1) {
    const random = randomStream(run, 'looks');
    const sums = new PairedSums();
    const isWrong = { once: false, many: false };
    for (let look = 1; look <= lookCount; look += 1) {
      for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1)
        sums.add(`g${adgroup}`, random.uniform(), random.uniform());
      const means = sums.means();
      isWrong.once ||= intervalOf(means, ONE_LOOK)[0] > 0;
      const watched = { count: means.rowCount, countPlanned: 4 * adgroupCount, error: 0.05 };
      isWrong.many ||= intervalOf(means, deviationsAtAnyLook(watched))[0] > 0;
    }
    wrong.once += Number(isWrong.once);
    wrong.many += Number(isWrong.many);
  }
  expect(wrong.many / runCount).toBeLessThan(0.05);
  // An interval for one look would not do.
  expect(wrong.once / runCount).toBeGreaterThan(0.1);
});
