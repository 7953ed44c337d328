/** The values in jobs of a method that changes during training. */

import { describe, expect, test } from 'vitest';
import { methodWorkAt } from '../../../shared/methods/methods.js';
import { methodOf } from '../../fixtures/compute/methods.js';

describe('MAML++', () => {
  const method = methodOf({
    kind: 'maml++',
    innerSteps: 4,
    multiStepOuterSteps: 10,
    firstOrderOuterSteps: 3,
  });

  test.each([
    [0, [0.25, 0.25, 0.25, 0.25]],
    [5, [0.125, 0.125, 0.125, 0.625]],
    [9, [0.025, 0.025, 0.025, 0.925]],
  ])('weights the losses after its steps: outer step %i', (outerStep, expected) => {
    const { stepWeights = [] } = methodWorkAt(method, outerStep);
    expect(stepWeights).toHaveLength(4);
    for (const [step, weight] of expected.entries()) expect(stepWeights[step]).toBeCloseTo(weight);
  });

  test('ends with the loss after the last step alone', () => {
    expect(methodWorkAt(method, 10).stepWeights).toBeUndefined();
  });

  test.each([
    [0, 'first'],
    [2, 'first'],
    [3, 'second'],
    [1000, 'second'],
  ])('outer step %i is of %s order', (outerStep, order) => {
    expect(methodWorkAt(method, outerStep).method).toEqual({ ...method, order });
  });
});

test('a method that does not change keeps its config', () => {
  const method = methodOf({ kind: 'fomaml' });
  expect(methodWorkAt(method, 0)).toEqual({ method });
});
