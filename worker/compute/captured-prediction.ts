/**
 * Prediction after inner steps as captured functions: the start, one inner step, the logits. What
 * they pass on stays on the device, and the rate is an input, so that a whole grid of rates and
 * numbers of steps runs on one graph of each.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { SHAPE_COUNT_MAX } from './captured-gradient.js';
import { captureByShape, type ShapedCapture } from './engine/capture/capture-by-shape.js';
import type { Engine } from './engine/load-engine.js';
import { innerStep } from './methods/inner-loop.js';
import { logitsOf, personalCopies, trunkOf, type Pass } from './methods/method.js';
import { placeCountsOf, type BatchTensors } from './models/batch-tensors.js';
import type { TrunkPass } from './models/forward.js';
import { modelPlanOf } from './models/model-plan.js';

export type NamedTensors = { readonly [name: string]: tfjs.Tensor };

/** One micro-batch; a role without rows, or not asked for, is absent. */
export type StartInput = {
  readonly dense: NamedTensors;
  /** The row pack `[packExtent, tableRowWidth]`. */
  readonly rows?: tfjs.Tensor2D;
  readonly batches: { readonly support?: BatchTensors; readonly query?: BatchTensors };
};

export type StartOutput = {
  /** What shared parameters say of the rows of each role. */
  readonly trunks: { readonly support?: TrunkPass; readonly query?: TrunkPass };
  /** The initial blocks once per task: `[taskCount, ...shape]` by name. */
  readonly personal: NamedTensors;
};

export type LogitsInput = {
  readonly dense: NamedTensors;
  readonly batch: BatchTensors;
  readonly trunk: TrunkPass;
  readonly personal: NamedTensors;
};

export type StepInput = LogitsInput & {
  /** Inner rates, `[taskCount]`. */
  readonly rates: tfjs.Tensor1D;
};

export interface PredictionFunctions {
  readonly start: ShapedCapture<StartInput, StartOutput>;
  /** One inner step of every task; null when no variable is personal, hence nothing would move. */
  readonly step: ShapedCapture<StepInput, NamedTensors> | null;
  /** `[taskCount, rowExtent]` */
  readonly logits: ShapedCapture<LogitsInput, tfjs.Tensor2D>;
  dispose(): void;
}

export function capturePrediction(engine: Engine, spec: ModelSpec): PredictionFunctions {
  const plan = modelPlanOf(spec, true);
  const passOn = (dense: NamedTensors, data: BatchTensors, rows?: tfjs.Tensor2D): Pass => ({
    job: {
      engine,
      spec,
      taskCount: placeCountsOf(data).taskCount,
      dense: new Map(Object.entries(dense)),
      rows: rows ?? null,
      batchOf: () => data,
    },
    plan,
    data,
  });
  const start = ({ dense, rows, batches }: StartInput): StartOutput => {
    const { support, query } = batches;
    const some = query ?? support;
    if (some === undefined) throw new Error('a micro-batch has rows');
    const trunkOfRows = (data: BatchTensors): TrunkPass => trunkOf(passOn(dense, data, rows));
    return {
      trunks: {
        ...(support === undefined ? {} : { support: trunkOfRows(support) }),
        ...(query === undefined ? {} : { query: trunkOfRows(query) }),
      },
      personal: Object.fromEntries(personalCopies(passOn(dense, some).job, plan)),
    };
  };
  const step = ({ dense, batch, trunk, personal, rates }: StepInput): NamedTensors => {
    const blocks = new Map(Object.entries(personal));
    const moved = innerStep(passOn(dense, batch), trunk, blocks, rates);
    return Object.fromEntries(moved.personal);
  };
  const logits = ({ dense, batch, trunk, personal }: LogitsInput): tfjs.Tensor2D =>
    logitsOf(passOn(dense, batch), trunk, new Map(Object.entries(personal)));

  const shapeCountMax = SHAPE_COUNT_MAX;
  const captured = {
    start: captureByShape(engine, start, { name: 'the start of a prediction', shapeCountMax }),
    step:
      plan.personal.size === 0
        ? null
        : captureByShape(engine, step, { name: 'an inner step', shapeCountMax }),
    logits: captureByShape(engine, logits, { name: 'the logits', shapeCountMax }),
  };
  return {
    ...captured,
    dispose: () => {
      captured.start.dispose();
      captured.step?.dispose();
      captured.logits.dispose();
    },
  };
}
