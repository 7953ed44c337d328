/** Fields, variables and staged values: the state behind the operations that models are handed. */

import type * as tfjs from '@tensorflow/tfjs';
import type { Staged } from '../../../shared/models/kinds/forward-frame.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { Engine } from '../engine/load-engine.js';
import type { BatchTensors } from './device-tasks.js';
import { type FieldGroup, fieldGroups, type FieldSource, type ModelPlan } from './fields.js';
import type { StagedPass } from './staged-pass.js';

export interface ModelFrame {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly pass: StagedPass;
  /** All fields, in order. */
  readonly groups: readonly FieldGroup[];
  /** Factors of a layer's units, or of a range of them; null where none are dropped. */
  readonly unitMask: (layer: string, range?: UnitRange) => Staged | null;
}

export function modelFrameOf(
  engine: Engine,
  plan: ModelPlan,
  pass: StagedPass,
  source: FieldSource | null,
): ModelFrame {
  return {
    engine,
    spec: plan.spec,
    pass,
    groups: fieldGroups(engine, plan, pass, source),
    unitMask: (layer, range) => {
      if (!plan.maskedLayers.has(layer)) return null;
      const maskIn = (): tfjs.Tensor2D => unitMaskIn(source?.data, layer);
      if (range === undefined) return pass.ofRows(`${layer}.mask`, maskIn);
      const { start, count } = range;
      return pass.ofRows(`${layer}.mask${start}`, () => {
        const mask = maskIn();
        return engine.tf.slice(mask, [0, start], [mask.shape[0], count]);
      });
    },
  };
}

interface UnitRange {
  readonly start: number;
  readonly count: number;
}

function unitMaskIn(data: BatchTensors | undefined, layer: string): tfjs.Tensor2D {
  const mask = data?.unitMasks?.[layer];
  if (mask === undefined) throw new Error(`the rows have no mask of ${layer}`);
  return mask;
}

/** The values of a group of fields as `[.., fieldCount, width]`. */
export function byField({ engine, spec }: ModelFrame, fields: tfjs.Tensor): tfjs.Tensor {
  if (fields.rank === 4) return fields;
  const width = spec.tableRowWidth;
  const lead = fields.shape.slice(0, -1);
  return engine.tf.reshape(fields, [...lead, lastExtentOf(fields) / width, width]);
}

/** The values of a group of fields as `[.., fieldCount * width]`. */
export function besideEachOther({ engine: { tf } }: ModelFrame, fields: tfjs.Tensor): tfjs.Tensor {
  if (fields.rank < 4) return fields;
  const [taskCount = 0, rowExtent = 0, fieldCount = 0, width = 0] = fields.shape;
  return tf.reshape(fields, [taskCount, rowExtent, fieldCount * width]);
}

/** Field vectors without linear terms: `[.., fieldCount, embeddingWidth]`. */
export function vectorsOf(frame: ModelFrame, fields: tfjs.Tensor): tfjs.Tensor {
  const { embeddingWidth, hasLinear } = frame.spec;
  const whole = byField(frame, fields);
  if (!hasLinear) return whole;
  const extents = [...whole.shape.slice(0, -1), embeddingWidth];
  return frame.engine.tf.slice(
    whole,
    extents.map(() => 0),
    extents,
  );
}

export function lastExtentOf({ shape }: tfjs.Tensor): number {
  return shape[shape.length - 1] ?? 1;
}

/** `[.., n, width]` with all leading axes as one. */
export function flatLead({ engine: { tf } }: ModelFrame, x: tfjs.Tensor): tfjs.Tensor3D {
  const [rows = 1, columns = 1] = x.shape.slice(-2);
  return tf.reshape<tfjs.Rank.R3>(x, [x.size / (rows * columns), rows, columns]);
}
