/** The gradient of a micro-batch, by any method, as one captured function. */

import type * as tfjs from '@tensorflow/tfjs';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { GradientWork } from '../../../shared/queue/protocol.js';
import {
  captureByShape,
  SHAPE_COUNT_MAX,
  type ShapedCapture,
} from '../engine/capture/capture-by-shape.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import { leavesOf } from '../engine/capture/tensor-structure.js';
import type { Engine } from '../engine/load-engine.js';
import { adaptationStages } from '../meta-gradients/adaptation-stages.js';
import {
  metaGradient,
  metaGradientInStages,
  runsInStages,
} from '../meta-gradients/meta-gradient.js';
import {
  jobTensorsOf,
  type BatchInput,
  type MetaGradientResult,
  type TaskWeights,
} from '../meta-gradients/passes.js';

type GradientInput = BatchInput & {
  /** `[taskCount]`, 0 for padding. */
  readonly weights: {
    readonly warm: tfjs.Tensor1D;
    readonly cold?: tfjs.Tensor1D;
    /** `[innerSteps]` */
    readonly steps?: tfjs.Tensor1D;
  };
};

/** `MetaGradientResult` as a structure of tensors. */
export type GradientOutput = {
  readonly gradients: { readonly [name: string]: tfjs.Tensor };
  readonly rowGradient?: tfjs.Tensor2D;
  readonly queryLosses?: tfjs.Tensor1D;
  readonly supportLosses?: tfjs.Tensor1D;
};

export type GradientFunction = ShapedCapture<GradientInput, GradientOutput>;

export function captureGradient(
  engine: Engine,
  spec: ModelSpec,
  method: GradientWork['method'],
  shelves: GraphShelves | null = null,
): GradientFunction {
  const plan = methodPlanOf(method);
  if (runsInStages(plan)) return captureInStages(engine, spec, plan);
  const compute = ({ weights, ...input }: GradientInput): GradientOutput => {
    const job = jobTensorsOf(engine, spec, input, weights.warm.shape[0]);
    return outputOf(metaGradient(plan, job, bothWeights(weights)));
  };
  return captureByShape(engine, compute, {
    name: `the gradient of ${method.kind}`,
    shapeCountMax: SHAPE_COUNT_MAX,
    shelf: shelves?.(['gradient', spec, method]) ?? null,
  });
}

/** Captures each stage by itself: one graph for all would keep the values that are to be recomputed. */
function captureInStages(engine: Engine, spec: ModelSpec, plan: MethodPlan): GradientFunction {
  const { tf } = engine;
  const captured: Pick<ShapedCapture<never, never>, 'dispose' | 'statistics'>[] = [];
  const stages = adaptationStages(engine, spec, plan, (name, compute) => {
    const stage = captureByShape(engine, compute, { name, shapeCountMax: SHAPE_COUNT_MAX });
    captured.push(stage);
    return (input) => stage.run(input);
  });
  return {
    run: ({ weights, ...batch }) => {
      const outputs: GradientOutput[] = [];
      tf.tidy(() => {
        const job = jobTensorsOf(engine, spec, batch);
        const result = metaGradientInStages(plan, { job, batch }, bothWeights(weights), stages);
        const output = outputOf(result);
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

function bothWeights({ warm, cold = warm, steps }: GradientInput['weights']): TaskWeights {
  return { warm, cold, ...(steps === undefined ? {} : { steps }) };
}

function outputOf(result: MetaGradientResult): GradientOutput {
  const { gradients, rowGradient, queryLosses, supportLosses } = result;
  return {
    gradients: Object.fromEntries(gradients),
    ...(rowGradient === null ? {} : { rowGradient }),
    ...(queryLosses === null ? {} : { queryLosses }),
    ...(supportLosses === null ? {} : { supportLosses }),
  };
}
