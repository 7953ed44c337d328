/** The query loss of a micro-batch before adaptation, as a captured function of its own: that of the gradient stays as it is. */

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
import { jobTensorsOf, type BatchInput } from '../meta-gradients/passes.js';
import { rolesBeforeSteps } from '../meta-gradients/rows-read.js';
import { unadaptedQueryLosses } from '../meta-gradients/unadapted.js';

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
