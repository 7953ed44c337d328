/** A method's whole gradient computation of a micro-batch as one captured function. */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { GradientWork } from '../../shared/protocol.js';
import { captureByShape, type ShapedCapture } from './engine/capture/capture-by-shape.js';
import type { Engine } from './engine/load-engine.js';
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
  const compute = ({ dense, rows, batches, weights }: GradientInput): GradientOutput => {
    const { warm, cold = warm } = weights;
    const job = {
      engine,
      spec,
      taskCount: warm.shape[0],
      dense: new Map(Object.entries(dense)),
      rows: rows ?? null,
      batchOf: (role: keyof GradientInput['batches']) => batches[role] ?? null,
    };
    const result = runMethod(method, job, { warm, cold });
    const { gradients, rowGradient, queryLosses, supportLosses } = result;
    return {
      gradients: Object.fromEntries(gradients),
      ...(rowGradient === null ? {} : { rowGradient }),
      ...(queryLosses === null ? {} : { queryLosses }),
      ...(supportLosses === null ? {} : { supportLosses }),
    };
  };
  return captureByShape(engine, compute, {
    name: `the gradient of ${method.kind}`,
    shapeCountMax: SHAPE_COUNT_MAX,
  });
}
