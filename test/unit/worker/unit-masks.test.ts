import { describe, expect, it } from 'vitest';
import { unitMasksOf } from '../../../worker/compute/models/row-batch.js';

const dropout = { seed: 3, outerStep: 11 };
const layersOf = (...widths: number[]): Parameters<typeof unitMasksOf>[2] =>
  widths.map((width) => ({ width, rate: 0.25 }));
const first = { taskIndex: 4, rowCount: 5, supportRowCount: 2 };
const second = { taskIndex: 9, rowCount: 3, supportRowCount: 1 };
const widths = [7, 2];

const rowOf = (mask: Float32Array | undefined, width: number, place: number): Float32Array =>
  mask?.slice(place * width, (place + 1) * width) ?? new Float32Array();

describe('unitMasksOf', () => {
  it('drops the share of units and scales the others up, so that the mean is 1', () => {
    const task = { taskIndex: 1, rowCount: 2_000, supportRowCount: 0 };
    const rows = { tasks: [task], role: 'query', taskCount: 1, rowExtent: 2_000 } as const;
    const [mask = new Float32Array()] = unitMasksOf(dropout, rows, layersOf(9));
    // 1 / (1 - 0.25)
    expect(new Set(mask)).toEqual(new Set([0, Math.fround(4 / 3)]));
    for (const unit of [0, 1, 8]) {
      const units = mask.filter((_, place) => place % 9 === unit);
      const mean = units.reduce((sum, value) => sum + value, 0) / units.length;
      expect(mean).toBeCloseTo(1, 1);
    }
  });

  it('gives a row one mask in every role and next to any other task', () => {
    const byTask = { taskCount: 3, rowExtent: 6 };
    const masksOf = (
      tasks: (typeof first)[],
      role: Parameters<typeof unitMasksOf>[1]['role'],
      shape = byTask,
    ) => unitMasksOf(dropout, { tasks, role, ...shape }, layersOf(...widths));
    const support = masksOf([second, first], 'support');
    const query = masksOf([first], 'query');
    const all = masksOf([first, second], 'all');
    const flat = masksOf([first, second], 'flat', { taskCount: 1, rowExtent: 12 });
    for (const [layer, width] of widths.entries()) {
      for (const row of [0, 1])
        expect(rowOf(support[layer], width, 6 + row)).toEqual(rowOf(all[layer], width, row));
      for (const row of [2, 3, 4])
        expect(rowOf(query[layer], width, row - 2)).toEqual(rowOf(all[layer], width, row));
      for (const row of [0, 1, 2])
        expect(rowOf(flat[layer], width, 5 + row)).toEqual(rowOf(all[layer], width, 6 + row));
    }
  });
});
