/** The sum of an outer step that is closed without some of its leaves. */

import { describe, expect, it } from 'vitest';
import { stepClosings } from '../../../coordinator/training/step-closing.js';
import { StepSum } from '../../../coordinator/training/step-sum.js';
import { at } from '../../../shared/base/arrays.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import {
  layoutOf,
  lossesForTest,
  nodeForTest,
  planForTest,
  twoTableSpec,
} from '../../fixtures/gradient-results.js';
import { tinySpec, tinyState } from '../../fixtures/training-states.js';
import { logisticConfig, tinyRun } from '../../fixtures/training/training-run.js';

it('has no row that missing leaves alone touch, and makes up for their weight', () => {
  const layouts = [layoutOf([2, 5], []), layoutOf([3, 5], [1])];
  const plan = planForTest(layouts.map((layout) => ({ layout })));
  const sum = new StepSum(twoTableSpec, plan);
  sum.add({
    delivery: { first: 0, end: 1 },
    sums: { nodes: [nodeForTest(at(layouts, 0), [1, 2], [10, 20])], losses: lossesForTest(1) },
  });
  expect(sum.missingLeaves()).toEqual([1]);
  const { dense, rows } = sum.metaGradient(0.5);
  expect([...(dense.get('w')?.values ?? [])]).toEqual([2, 4]);
  expect([...(rows.get('colour')?.ids ?? [])]).toEqual([2, 5]);
  expect([...(rows.get('colour')?.values ?? [])]).toEqual([20, 40]);
  expect([...(rows.get('shape')?.ids ?? [])]).toEqual([]);
});

describe('the closing of an outer step', () => {
  const weightsByLeaf = [[0.1, 0.2], [0.3], [0.4], [0]];
  const plan = planForTest(
    weightsByLeaf.map((taskWeights) => ({ taskWeights })),
    { outerStep: 5 },
  );

  function closed(missing: readonly number[]) {
    const events: RunEvent[] = [];
    const { options } = tinyRun(logisticConfig({}), { sink: (event) => void events.push(event) });
    const sum = new StepSum(twoTableSpec, plan);
    for (const [leaf, weights] of weightsByLeaf.entries()) {
      const nodes = [nodeForTest(layoutOf([], []), [1, 0], [])];
      const sums = { nodes, losses: lossesForTest(weights.length) };
      if (!missing.includes(leaf)) sum.add({ delivery: { first: leaf, end: leaf + 1 }, sums });
    }
    const { state, share } = stepClosings(options).close(sum, plan, tinyState(tinySpec(), 5));
    const gradient = sum.metaGradient(share).dense.get('w')?.values[0];
    return { leftOut: state.leftOut, events, gradient };
  }

  it('makes up for the task weights of the missing leaves, and records which they are', () => {
    const { leftOut, events, gradient } = closed([1]);
    // Three gradients of 1, whose tasks have the weights 0.1, 0.2, 0.4 and 0.
    expect(gradient).toBe(Math.fround(3 / (0.1 + 0.2 + 0.4)));
    expect(leftOut).toEqual([{ outerStep: 5, leaves: [1] }]);
    expect(events).toEqual([
      { kind: 'leaves-left-out', outerStep: 5, admittedLeafCount: 3, leafCount: 4 },
    ]);
  });

  it('changes nothing when no leaf is missing', () => {
    expect(closed([])).toEqual({ leftOut: undefined, events: [], gradient: 4 });
  });

  it('is refused when the tasks of the others have no weight', () => {
    expect(() => closed([0, 1, 2])).toThrow(expect.objectContaining({ kind: 'data' }) as Error);
  });
});
