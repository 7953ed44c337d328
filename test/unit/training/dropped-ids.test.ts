import { describe, expect, it } from 'vitest';
import { withDroppedIds, type IdDropout } from '../../../shared/tasks/task-copies.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';

const features: EncodedFeature[] = [
  { name: 'site', kind: 'category', rowCount: 9, encoding: { by: 'dictionary' } },
  { name: 'price', kind: 'number', scale: 'none', mean: 0, deviation: 1 },
  { name: 'hour', kind: 'category', rowCount: 25, encoding: { by: 'dictionary' } },
  { name: 'words', kind: 'bag', rowCount: 5, lengthMax: 3, encoding: { by: 'dictionary' } },
];

/** Bags have an empty place, -1, and the trained row of empty places, 5. */
const taskOf = (taskIndex: number, rowCount = 1_000) => ({
  taskIndex,
  categoryIds: [new Int32Array(rowCount).fill(7), new Int32Array(rowCount).fill(12)],
  bagIds: [Int32Array.from({ length: rowCount * 3 }, (_, place) => [4, -1, 5][place % 3]!)],
});

const dropout = (departures: Partial<IdDropout> = {}): IdDropout => ({
  rates: 0.2,
  seed: 3,
  outerStep: 11,
  ...departures,
});

const shareOf = (ids: ArrayLike<number> | undefined, id: number): number =>
  Array.from(ids ?? []).filter((found) => found === id).length / (ids?.length ?? 1);

describe('withDroppedIds', () => {
  it('replaces the share of ids by 0, apart for each feature', () => {
    const [task] = withDroppedIds([taskOf(4)], features, dropout());
    for (const ids of task?.categoryIds ?? []) expect(shareOf(ids, 0)).toBeCloseTo(0.2, 1);
    // Both features are unknown in a fifth of a fifth of the rows.
    const [sites, hours] = task?.categoryIds ?? [];
    const both = Array.from(sites ?? []).filter((id, row) => id === 0 && hours?.[row] === 0);
    expect(both.length / 1_000).toBeCloseTo(0.04, 1);
    expect(both.length).toBeLessThan(70);
  });

  it('leaves empty places and the trained row of empty places', () => {
    const [task] = withDroppedIds([taskOf(4)], features, dropout({ rates: 0.9 }));
    const [bags] = task?.bagIds ?? [];
    expect(shareOf(bags, -1)).toBe(1_000 / 3_000);
    expect(shareOf(bags, 5)).toBe(1_000 / 3_000);
    expect(shareOf(bags, 0)).toBeCloseTo(0.3, 1);
  });

  it('depends on task, seed and outer step, and on no other task or row', () => {
    const whole = withDroppedIds([taskOf(4), taskOf(5)], features, dropout());
    const [alone] = withDroppedIds([taskOf(5, 10)], features, dropout());
    expect(alone?.categoryIds[0]).toEqual(whole[1]?.categoryIds[0]?.slice(0, 10));
    expect(whole[0]?.categoryIds[0]).not.toEqual(whole[1]?.categoryIds[0]);
    for (const other of [dropout({ seed: 4 }), dropout({ outerStep: 12 })])
      expect(withDroppedIds([taskOf(4)], features, other)[0]).not.toEqual(whole[0]);
  });
});
