/** The gradient of a micro-batch, by any method, as one captured function, and its query loss before adaptation as another. */

import type * as tfjs from '@tensorflow/tfjs';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { GradientWork } from '../../../shared/queue/protocol.js';
import {
  captureByShape,
  SHAPE_COUNT_MAX,
  type ShapedCapture,
} from '../engine/capture/capture-by-shape.js';
import type { GraphShelves } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import {
  metaGradient,
  rolesBeforeSteps,
  unadaptedQueryLosses,
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

type LossOutput = { readonly losses: tfjs.Tensor1D };

export interface QueryLossFunction {
  /** Losses of the tasks, `[taskCount]`; null when no task has query rows. */
  run(input: BatchInput): tfjs.Tensor1D | null;
  dispose(): void;
}

export function captureQueryLoss(
  engine: Engine,
  spec: ModelSpec,
  method: GradientWork['method'],
  shelves: GraphShelves | null = null,
): QueryLossFunction {
  const { innerLoop } = methodPlanOf(method);
  const roles = rolesBeforeSteps(innerLoop);
  const captured: ShapedCapture<BatchInput, LossOutput> = captureByShape(
    engine,
    (input: BatchInput): LossOutput => ({
      losses: unadaptedQueryLosses(jobTensorsOf(engine, spec, input), innerLoop),
    }),
    {
      name: 'the query loss before adaptation',
      shapeCountMax: SHAPE_COUNT_MAX,
      shelf: shelves?.(['query loss before adaptation', spec, method]) ?? null,
    },
  );
  return {
    run: ({ batches, ...shared }) => {
      if (batches.query === undefined) return null;
      // A shape has a graph: rows that nothing reads would make more of them.
      const read = Object.entries(batches).filter(([role]) => roles.has(role));
      return captured.run({ ...shared, batches: Object.fromEntries(read) }).losses;
    },
    dispose: () => {
      captured.dispose();
    },
  };
}
