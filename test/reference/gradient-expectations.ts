/**
 * Small tasks with every kind of feature, and the comparison of job gradients over them with a
 * referee.
 */

import { expect } from 'vitest';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import {
  relativeDifference,
  type JobCase,
  type NamedOutput,
} from '../fixtures/compute/compute-inputs.js';
import type { TinyStoreOptions } from '../fixtures/stores/tiny-task-store.js';
import type { Gradient } from './referee.js';

export const rich: TinyStoreOptions = {
  taskCount: 5,
  supportRowCountMax: 6,
  queryRowCountMax: 7,
  categoryRowCounts: [9, 4],
  bags: [
    { rowCount: 8, lengthMax: 3 },
    { rowCount: 5, lengthMax: 2 },
  ],
  numberCount: 2,
  counts: true,
};

const DIFFERENCE_MAX = 5e-5;

/** Every variable, and the row pack of the tasks in their order. */
export function expectGradient(
  { spec }: JobCase,
  found: NamedOutput,
  expected: Gradient,
  tasks: readonly TaskRows[],
): void {
  for (const { name } of spec.variables)
    expect(relativeDifference(found.tensors.get(name)!, expected.get(name)!), name).toBeLessThan(
      DIFFERENCE_MAX,
    );
  const layout = rowPackLayoutOf(tasks);
  const rows = spec.tables.flatMap(({ name }, place) =>
    [...layout.idsByTable[place]!].flatMap((id) => [
      ...(expected.get(`${name}/${id}`) ?? new Float64Array(spec.tableRowWidth)),
    ]),
  );
  expect(relativeDifference(found.tensors.get('rows')!, rows), 'rows').toBeLessThan(DIFFERENCE_MAX);
}
