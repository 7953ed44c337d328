// The two paths of second-order MAML: the same gradient, with the memory of all inner steps or of
// one.

import type * as tfjs from '@tensorflow/tfjs';
import { beforeAll, describe, expect, test } from 'vitest';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { initialMetaParameters } from '../../../shared/models/initial-values.js';
import { modelSpecOf, type ModelSpec } from '../../../shared/models/model-spec.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { randomStream } from '../../../shared/base/random.js';
import { leavesOf } from '../../../worker/compute/engine/capture/tensor-structure.js';
import { loadEngine, type Engine } from '../../../worker/compute/engine/load-engine.js';
import { nativeBackendOf } from '../../../worker/compute/engine/native-backend.js';
import {
  adaptationStages,
  type StageMaker,
} from '../../../worker/compute/meta-gradients/adaptation-stages.js';
import {
  metaGradient,
  metaGradientInStages,
} from '../../../worker/compute/meta-gradients/meta-gradient.js';
import { jobTensorsOf, type BatchInput } from '../../../worker/compute/meta-gradients/passes.js';
import type { BatchTensors } from '../../../worker/compute/models/batch-tensors.js';
import { relativeDifference } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const TASK_COUNT = 6;
const ROW_EXTENT = 64;
const NUMBER_COUNT = 3;

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine('tensorflow', () => undefined);
});

function batch(name: string): BatchTensors {
  const { tf } = engine;
  const stream = randomStream(7, name);
  const drawn = (shape: [number, number], draw: () => number): tfjs.Tensor2D =>
    tf.tensor2d(Float32Array.from({ length: shape[0] * shape[1] }, draw), shape);
  return {
    numbers: drawn([TASK_COUNT * ROW_EXTENT, NUMBER_COUNT], () => stream.normal()),
    impressionShares: tf.fill([TASK_COUNT, ROW_EXTENT], 1 / ROW_EXTENT),
    clickShares: drawn([TASK_COUNT, ROW_EXTENT], () =>
      stream.uniform() < 0.3 ? 1 / ROW_EXTENT : 0,
    ),
  };
}

function inputOf(): { spec: ModelSpec; input: BatchInput } {
  const { manifest } = tinyTaskStore({ categoryRowCounts: [], numberCount: NUMBER_COUNT });
  const model = {
    ...{ kind: 'mlp', embeddingWidth: 4, hiddenWidths: [24, 24] },
    personal: ['layer1', 'output', 'bias'],
  };
  const spec = modelSpecOf(ModelConfigSchema.parse(model), manifest.features);
  const batches = { support: batch('support'), query: batch('query') };
  const dense = Object.fromEntries(
    [...initialMetaParameters(spec, 3).dense].map(([name, { shape, values }]) => [
      name,
      engine.tf.tensor(values, [...shape]),
    ]),
  );
  return { spec, input: { dense, batches } };
}

type Path = 'kept' | 'recomputed';

/** Plain stages; the tensors created in each are freed after it. */
const tidyStage: StageMaker = (_name, compute) => (input) => {
  const results: ReturnType<typeof compute>[] = [];
  engine.tf.tidy(() => {
    const result = compute(input);
    results.push(result);
    return leavesOf(result).map(({ tensor }) => tensor);
  });
  return results[0]!;
};

interface Outcome {
  readonly gradients: ReadonlyMap<string, Float32Array>;
  /** In addition to the memory in use before. */
  readonly peakByteCount: number;
}

/** Uncaptured: every operation runs separately, and the memory is read before each. */
function outcomeOf(path: Path, innerSteps: number): Outcome {
  const { tf } = engine;
  const backend = nativeBackendOf(tf);
  if (backend === null) throw new Error('needs the native backend');
  const { binding } = backend;
  const outcomes: Outcome[] = [];
  tf.tidy(() => {
    const { spec, input } = inputOf();
    const job = jobTensorsOf(engine, spec, input);
    const weights = tf.fill<tfjs.Rank.R1>([TASK_COUNT], 1 / TASK_COUNT);
    const before = tf.memory().numBytes;
    let peak = before;
    backend.binding = Object.create(binding, {
      executeOp: {
        value: (...call: Parameters<typeof binding.executeOp>) => {
          peak = Math.max(peak, tf.memory().numBytes);
          return binding.executeOp(...call);
        },
      },
    }) as typeof binding;
    try {
      const loop = { innerSteps, innerRate: 0.3 };
      const plan = methodPlanOf(methodOf({ ...loop, kind: 'maml', path }));
      const both = { warm: weights, cold: weights };
      const { gradients } =
        path !== 'recomputed'
          ? metaGradient(plan, job, both)
          : metaGradientInStages(
              plan,
              { job, batch: input },
              both,
              adaptationStages(engine, spec, plan, tidyStage),
            );
      outcomes.push({
        gradients: new Map(
          [...gradients].map(([name, tensor]) => [name, tensor.dataSync<'float32'>()]),
        ),
        peakByteCount: peak - before,
      });
    } finally {
      backend.binding = binding;
    }
  });
  return outcomes[0]!;
}

describe('second-order MAML over 10 inner steps', () => {
  test('has the same gradient by both paths, recomputed in a fraction of the memory', () => {
    const [kept, recomputed] = [outcomeOf('kept', 10), outcomeOf('recomputed', 10)];
    for (const [name, gradient] of kept.gradients)
      expect(relativeDifference(recomputed.gradients.get(name)!, gradient), name).toBeLessThan(
        1e-5,
      );
    expect(recomputed.peakByteCount).toBeLessThan(kept.peakByteCount / 3);
  });

  test('needs little more than its personal blocks per recomputed step', () => {
    const perStep = (path: Path): number =>
      (outcomeOf(path, 10).peakByteCount - outcomeOf(path, 2).peakByteCount) / 8;
    const blockByteCount = 4 * TASK_COUNT * (24 * 24 + 24 + 24 + 1);
    expect(perStep('recomputed')).toBeLessThan(1.5 * blockByteCount);
    expect(perStep('kept')).toBeGreaterThan(5 * blockByteCount);
  });

  test('leaves no tensor behind', () => {
    outcomeOf('recomputed', 2);
    const before = engine.tf.memory().numTensors;
    outcomeOf('recomputed', 3);
    outcomeOf('kept', 3);
    expect(engine.tf.memory().numTensors).toBe(before);
  });
});
