/**
 * Prediction after inner steps as captured functions: the start, one inner step, the logits. What
 * they pass on stays on the device, and the rate is an input, so that a whole grid of rates and
 * numbers of steps runs on one graph of each.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { predictionLoopOf, type MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { SHAPE_COUNT_MAX } from './captured-gradient.js';
import { captureByShape, type ShapedCapture } from '../engine/capture/capture-by-shape.js';
import type { Engine } from '../engine/load-engine.js';
import { adaptingTasksOf } from '../meta-gradients/adapting-tasks.js';
import {
  blocksOf,
  startState,
  steppedState,
  stepGradient,
  type LoopState,
} from '../meta-gradients/inner-loop.js';
import { shiftedBy } from '../meta-gradients/shift-by-level.js';
import {
  jobTensorsOf,
  logitsOf,
  trunkOf,
  type BatchInput,
  type Pass,
} from '../meta-gradients/passes.js';
import { stepPlaceOf } from '../meta-gradients/support-batches.js';
import type { BatchTensors } from '../models/batch-tensors.js';
import type { TrunkPass } from '../models/staged-pass.js';
import { modelPlanOf } from '../models/model-plan.js';

export type StartOutput = {
  /** What shared parameters say of the rows of each role. */
  readonly trunks: { readonly support?: TrunkPass; readonly query?: TrunkPass };
  readonly state: LoopState;
};

/** Rows of one role under the blocks of a state. */
export type LogitsInput = Pick<BatchInput, 'dense'> & {
  readonly batch: BatchTensors;
  readonly trunk: TrunkPass;
  readonly state: LoopState;
  /** Present after inner steps, where a level shift follows them. */
  readonly support?: {
    readonly batch: BatchTensors;
    readonly trunk: TrunkPass;
    /** Of the shift's prior variances. */
    readonly priorScale?: tfjs.Scalar;
  };
};

export type StepInput = BatchInput & {
  /** Of the support rows. */
  readonly trunk: TrunkPass;
  readonly state: LoopState;
  /** Inner rates, `[taskCount]`. */
  readonly rates: tfjs.Tensor1D;
};

export interface PredictionFunctions {
  readonly start: ShapedCapture<BatchInput, StartOutput>;
  /** Inner step `stepIndex` of every task; null when no variable is personal: nothing would move. */
  readonly stepAt: ((stepIndex: number) => ShapedCapture<StepInput, LoopState>) | null;
  /** `[taskCount, rowExtent]` */
  readonly logits: ShapedCapture<LogitsInput, tfjs.Tensor2D>;
  dispose(): void;
}

export function capturePrediction(
  engine: Engine,
  spec: ModelSpec,
  method: MethodPlan,
): PredictionFunctions {
  const loop = predictionLoopOf(method);
  const plan = modelPlanOf(spec, true);
  const passOn = (input: BatchInput, data: BatchTensors): Pass => ({
    job: jobTensorsOf(engine, spec, input),
    plan,
    data,
  });
  const start = (input: BatchInput): StartOutput => {
    const { support, query } = input.batches;
    const trunkOfRows = (data: BatchTensors): TrunkPass => trunkOf(passOn(input, data));
    return {
      trunks: {
        ...(support === undefined ? {} : { support: trunkOfRows(support) }),
        ...(query === undefined ? {} : { query: trunkOfRows(query) }),
      },
      state: startState(loop, adaptingTasksOf(jobTensorsOf(engine, spec, input))),
    };
  };
  const step =
    (stepIndex: number) =>
    ({ trunk, state, rates, ...input }: StepInput): LoopState => {
      const { support } = input.batches;
      if (support === undefined) throw new Error('an inner step has support rows');
      const pass = passOn(input, support);
      const tasks = adaptingTasksOf(pass.job);
      const at = { loop, stepIndex, rates };
      const { scaledGradients } = stepGradient(at, { pass, trunk }, state);
      return steppedState(at, tasks, state, scaledGradients);
    };
  const logits = ({ dense, batch, trunk, state, support }: LogitsInput): tfjs.Tensor2D => {
    const pass = passOn({ dense, batches: { query: batch } }, batch);
    const blocks = blocksOf(adaptingTasksOf(pass.job), state);
    const found = logitsOf({ pass, trunk }, blocks);
    if (support === undefined) return found;
    const { priorScale } = support;
    const evidence = passOn({ dense, batches: { support: support.batch } }, support.batch);
    const basis = {
      support: evidence,
      logits: logitsOf({ pass: evidence, trunk: support.trunk }, blocks),
      ...(priorScale === undefined ? {} : { priorScale }),
    };
    return shiftedBy(loop.shift, basis, pass, found);
  };

  const shapeCountMax = SHAPE_COUNT_MAX;
  // Steps that compute alike are one function.
  const steps = new Map<number, ShapedCapture<StepInput, LoopState>>();
  const stepAt = (stepIndex: number): ShapedCapture<StepInput, LoopState> => {
    const place = stepPlaceOf(loop, stepIndex);
    const known =
      steps.get(place) ??
      captureByShape(engine, step(place), { name: 'an inner step', shapeCountMax });
    steps.set(place, known);
    return known;
  };
  const captured = {
    start: captureByShape(engine, start, { name: 'the start of a prediction', shapeCountMax }),
    logits: captureByShape(engine, logits, { name: 'the logits', shapeCountMax }),
  };
  return {
    ...captured,
    stepAt: plan.personal.size === 0 ? null : stepAt,
    dispose: () => {
      for (const each of [...steps.values(), captured.start, captured.logits]) each.dispose();
    },
  };
}
