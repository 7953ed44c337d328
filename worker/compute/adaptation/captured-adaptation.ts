/**
 * The adaptation of tasks as captured functions: the start, one inner step, the covariance after the last.
 * Their results stay on the device, and the rate is an input, so that a whole grid of rates and
 * numbers of steps runs on one graph of each.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import { COVARIANCE } from '../../../shared/methods/inner-loop/personal-blocks.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { capture, type Captured } from '../engine/capture/capture.js';
import type { GraphShelf } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import type { TensorStructure } from '../engine/capture/tensor-structure.js';
import {
  adaptingTasksOf,
  startState,
  steppedState,
  stepGradient,
  type LoopState,
} from '../meta-gradients/inner-loop.js';
import { scoredState } from '../meta-gradients/moderated-logits.js';
import { jobTensorsOf, named, type BatchInput, type Pass } from '../meta-gradients/passes.js';
import type { BatchTensors } from '../models/device-tasks.js';
import { modelPlanOf } from '../models/fields.js';
import type { TrunkPass } from '../models/staged-pass.js';

type StartInput = BatchInput & {
  /** `[taskCount]`; only its shape is read, since tasks may have no rows. */
  readonly tasks: tfjs.Tensor1D;
};

type StepInput = BatchInput & {
  /** The trunk pass of the support rows. */
  readonly trunk: TrunkPass;
  readonly state: LoopState;
  /** Inner rates, `[taskCount]`. */
  readonly rates: tfjs.Tensor1D;
};

type ScoredInput = BatchInput & {
  /** The trunk pass of the support rows; absent where tasks have not stepped on any. */
  readonly trunk?: TrunkPass;
  readonly state: LoopState;
  readonly rates: tfjs.Tensor1D;
};

export interface AdaptationFunctions {
  readonly start: Captured<StartInput, LoopState>;
  /** An inner step of every task; null when no variable is personal, so that none moves. */
  readonly step: Captured<StepInput, LoopState> | null;
  /** The covariance of the blocks alone; null where the method has none. */
  readonly covariance: Captured<ScoredInput, tfjs.Tensor> | null;
  dispose(): void;
}

/** @param shelfOf the graphs of one of these functions; null where none are kept. */
export function captureAdaptation(
  engine: Engine,
  spec: ModelSpec,
  loop: InnerLoop,
  shelfOf: (functionName: string) => GraphShelf | null = () => null,
): AdaptationFunctions {
  const plan = modelPlanOf(spec, true);
  const passOn = (input: BatchInput, data: BatchTensors): Pass => ({
    job: jobTensorsOf(engine, spec, input),
    plan,
    data,
  });
  const start = ({ tasks, ...input }: StartInput): LoopState =>
    startState(loop, adaptingTasksOf(jobTensorsOf(engine, spec, input, tasks.shape[0])));
  const step = ({ trunk, state, rates, ...input }: StepInput): LoopState => {
    const { support } = input.batches;
    if (support === undefined) throw new Error('an inner step has support rows');
    const pass = passOn(input, support);
    const rows = { pass, trunk };
    const { scaledGradients } = stepGradient(rows, state, rates);
    return steppedState(loop, adaptingTasksOf(pass.job), state, { scaledGradients, rates, rows });
  };
  const covariance = ({ trunk, state, rates, ...input }: ScoredInput): tfjs.Tensor => {
    const { support } = input.batches;
    const rows =
      trunk === undefined || support === undefined ? null : { pass: passOn(input, support), trunk };
    const job = jobTensorsOf(engine, spec, input, rates.shape[0]);
    return named(scoredState(loop, adaptingTasksOf(job), state, { rows, rates }), COVARIANCE);
  };
  const captured = <In extends TensorStructure, Out extends TensorStructure>(
    name: string,
    compute: (input: In) => Out,
  ): Captured<In, Out> => capture(engine, compute, { name, shelf: shelfOf(name) });
  const functions = {
    start: captured('the start of tasks', start),
    step: plan.personal.size === 0 ? null : captured('an inner step', step),
    covariance: loop.covariance === undefined ? null : captured('the covariance', covariance),
  };
  return {
    ...functions,
    dispose: () => {
      for (const each of Object.values(functions)) each?.dispose();
    },
  };
}
