// Captured functions are kept by what they compute, and freed when there are too many.

import type { Rank } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { modelSpecOf, type ModelSpec } from '../../../shared/models/model-spec.js';
import { createComputations } from '../../../worker/compute/job/computations.js';
import { loadEngine } from '../../../worker/compute/engine/load-engine.js';

const specOf = (embeddingWidth: number): ModelSpec =>
  modelSpecOf(ModelConfigSchema.parse({ embeddingWidth }), []);
const global = { kind: 'global' } as const;

const engine = await loadEngine('tensorflow', () => undefined);

test('the least recently used is freed for the 33rd, and all are freed at the end', () => {
  const computations = createComputations(engine);
  const [first, second, ...rest] = Array.from({ length: 32 }, (_, index) =>
    computations.gradientOf(specOf(index + 1), global),
  );
  const input = {
    dense: { bias: engine.tf.tensor1d([0.5]) },
    batches: {
      all: {
        impressionShares: engine.tf.ones<Rank.R2>([1, 8]),
        clickShares: engine.tf.zeros<Rank.R2>([1, 8]),
      },
    },
    weights: { warm: engine.tf.tensor1d([1]) },
  } as const;
  // The first was used again, so it is not the oldest.
  expect(computations.gradientOf(specOf(1), global)).toBe(first);
  computations.gradientOf(specOf(33), global);
  expect(() => second!.run(input)).toThrow(/disposed/);
  expect(computations.gradientOf(specOf(1), global)).toBe(first);
  expect(computations.gradientOf(specOf(2), global)).not.toBe(second);
  computations.dispose();
  for (const freed of [first!, ...rest]) expect(() => freed.run(input)).toThrow(/disposed/);
});
