/** The verdict of a soak on growth. Seen to fail: means instead of medians, a slope by minute, medians of memory. */

import { expect, test } from 'vitest';
import { flatnessOf, type Point } from '../../soak/flatness.js';

const bound = {
  ...{ sharePerHour: 0.1, amountPerHour: 16, settledMinute: 0 },
  level: 'median',
} as const;
/** An hour, one point every half minute. */
const hourOf = (valueAt: (minute: number) => number): Point[] =>
  Array.from({ length: 121 }, (_, index) => ({ minute: index / 2, value: valueAt(index / 2) }));

test('growth of a MiB a minute is not flat, and its slope is 60 an hour', () => {
  const flatness = flatnessOf(
    hourOf((minute) => 100 + minute),
    bound,
  );
  expect(flatness?.slopePerHour).toBeCloseTo(60, 9);
  expect(flatness).toMatchObject({ boundPerHour: 16, isFlat: false });
});

test('a start that settles within the first quarter is flat, and so are single peaks', () => {
  const settling = (minute: number): number => Math.min(100, 20 * minute);
  const peaks = (minute: number): number => (minute > 50 && minute % 5 === 0 ? 900 : 0);
  const flatness = flatnessOf(
    hourOf((minute) => settling(minute) + peaks(minute)),
    bound,
  );
  expect(flatness).toMatchObject({ early: 100, late: 100, slopePerHour: 0, isFlat: true });
});

test('memory that is collected now and then is flat by its least values, unless these rise', () => {
  const least = { ...bound, level: 'least' } as const;
  const saw = (minute: number): number => 100 + 40 * (minute % 3.5);
  expect(flatnessOf(hourOf(saw), least)).toMatchObject({ early: 100, late: 100, isFlat: true });
  const leak = hourOf((minute) => saw(minute) + 2 * minute);
  expect(flatnessOf(leak, least)).toMatchObject({ isFlat: false });
});

test('what happens before a measure has settled is not judged', () => {
  const filling = hourOf((minute) => 10 * Math.min(minute, 30));
  expect(flatnessOf(filling, bound)).toMatchObject({ isFlat: false });
  expect(flatnessOf(filling, { ...bound, settledMinute: 30 })).toMatchObject({ slopePerHour: 0 });
  expect(flatnessOf(filling, { ...bound, settledMinute: 60 })).toBeNull();
});
