/** A method's whole gradient computation of a micro-batch as one captured function. */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { GradientWork } from '../../shared/protocol.js';
import { captureByShape, type ShapedCapture } from './engine/capture/capture-by-shape.js';
import { leavesOf } from './engine/capture/tensor-structure.js';
import type { Engine } from './engine/load-engine.js';
import { mamlStages } from './methods/maml-stages.js';
import { maml, type MamlSettings } from './methods/maml.js';
import type { JobTensors, MethodResult, TaskWeights } from './methods/method.js';
import { runMethod } from './methods/methods.js';
import type { BatchTensors } from './models/batch-tensors.js';

/** What a job or a micro-batch has none of is absent. */
export type GradientInput = {
  readonly dense: { readonly [name: string]: tfjs.Tensor };
  /** The row pack `[packExtent, tableRowWidth]`. */
  readonly rows?: tfjs.Tensor2D;
  readonly batches: {
    readonly support?: BatchTensors;
    readonly query?: BatchTensors;
    readonly all?: BatchTensors;
  };
  /** `[taskCount]`, 0 for padding. */
  readonly weights: { readonly warm: tfjs.Tensor1D; readonly cold?: tfjs.Tensor1D };
};

/** `MethodResult` as a structure of tensors. */
export type GradientOutput = {
  readonly gradients: { readonly [name: string]: tfjs.Tensor };
  readonly rowGradient?: tfjs.Tensor2D;
  readonly queryLosses?: tfjs.Tensor1D;
  readonly supportLosses?: tfjs.Tensor1D;
};

export type GradientFunction = ShapedCapture<GradientInput, GradientOutput>;

/** Graphs of one computation held at once: jobs of one run have some twenty shapes. */
export const SHAPE_COUNT_MAX = 64;

export function captureGradient(
  engine: Engine,
  spec: ModelSpec,
  method: GradientWork['method'],
): GradientFunction {
  if (method.kind === 'maml' && method.path === 'recomputed')
    return captureInStages(engine, spec, method);
  const compute = (input: GradientInput): GradientOutput =>
    outputOf(runMethod(method, jobOf(engine, spec, input), weightsOf(input)));
  return captureByShape(engine, compute, {
    name: `the gradient of ${method.kind}`,
    shapeCountMax: SHAPE_COUNT_MAX,
  });
}

/** A captured function for each stage: in one graph, what is to be recomputed would be kept. */
function captureInStages(engine: Engine, spec: ModelSpec, method: MamlSettings): GradientFunction {
  const { tf } = engine;
  const captured: Pick<ShapedCapture<never, never>, 'dispose' | 'statistics'>[] = [];
  const stages = mamlStages(engine, spec, method.innerRate, (name, compute) => {
    const stage = captureByShape(engine, compute, { name, shapeCountMax: SHAPE_COUNT_MAX });
    captured.push(stage);
    return (input) => stage.run(input);
  });
  return {
    run: (input) => {
      const outputs: GradientOutput[] = [];
      tf.tidy(() => {
        const job = jobOf(engine, spec, input);
        const output = outputOf(maml(job, weightsOf(input), method, stages));
        outputs.push(output);
        return leavesOf(output).map(({ tensor }) => tensor);
      });
      // Filled by the lines above, or they threw.
      return outputs[0] as GradientOutput;
    },
    dispose: () => {
      for (const stage of captured) stage.dispose();
    },
    get statistics() {
      return captured
        .map(({ statistics }) => statistics)
        .reduce((sum, stage) => ({
          callCount: sum.callCount + stage.callCount,
          captureCount: sum.captureCount + stage.captureCount,
          evictionCount: sum.evictionCount + stage.evictionCount,
          shapeCount: sum.shapeCount + stage.shapeCount,
          captureMs: sum.captureMs + stage.captureMs,
        }));
    },
  };
}

function jobOf(engine: Engine, spec: ModelSpec, input: GradientInput): JobTensors {
  const { dense, rows, batches, weights } = input;
  return {
    engine,
    spec,
    taskCount: weights.warm.shape[0],
    dense: new Map(Object.entries(dense)),
    rows: rows ?? null,
    batchOf: (role) => batches[role] ?? null,
  };
}

function weightsOf({ weights: { warm, cold = warm } }: GradientInput): TaskWeights {
  return { warm, cold };
}

function outputOf(result: MethodResult): GradientOutput {
  const { gradients, rowGradient, queryLosses, supportLosses } = result;
  return {
    gradients: Object.fromEntries(gradients),
    ...(rowGradient === null ? {} : { rowGradient }),
    ...(queryLosses === null ? {} : { queryLosses }),
    ...(supportLosses === null ? {} : { supportLosses }),
  };
}
