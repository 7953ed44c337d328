/**
 * The recomputed path of second order holds only the states between the inner steps. An adjoint is
 * carried back from the query loss step by step; for plain gradient descent
 *
 *   v_k = d L(phi_K ; Q) / d phi_k        v_(k-1) = v_k - innerRate * H_k v_k
 *
 * where H_k is the Hessian of the support loss at phi_(k-1), whose forward pass is computed again.
 * Each step adds its gradient of the shared variables. The memory is that of one step, whatever the
 * number of steps.
 *
 * Every stage is captured by itself: within one graph, common subexpressions would be found and the
 * recomputation undone.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { TensorStructure } from '../engine/capture/tensor-structure.js';
import type { Engine } from '../engine/load-engine.js';
import { parametricParts, type TrunkPass } from '../models/staged-pass.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import {
  blocksOf,
  ratesOf,
  startState,
  steppedState,
  stepGradient,
  type LoopState,
} from './inner-loop.js';
import { shiftedBy } from './shift-by-level.js';
import { gradientsOf, named, packGroup, type TensorsByName } from './tensors-by-name.js';
import {
  jobTensorsOf,
  logitsOf,
  lossesOf,
  passOf,
  trunkOf,
  withTrunk,
  type BatchInput,
  type Pass,
} from './passes.js';
import { unadaptedGradient } from './unadapted.js';

/** The trunk pass is that of the support rows, computed once for all inner steps. */
type StepInput = BatchInput & { readonly trunk: TrunkPass; readonly state: LoopState };
type StepOutput = { readonly state: LoopState; readonly losses: tfjs.Tensor1D };
type QueryInput = StepInput & { readonly weights: tfjs.Tensor1D };
/** Gradients of shared variables; absent where the loss does not depend on them. */
export type SharedGradient = { readonly dense: TensorsByName; readonly rows: TensorsByName };
type QueryGradient = StepGradient & { readonly losses: tfjs.Tensor1D };
type StepGradient = {
  readonly dense: TensorsByName;
  readonly rows: TensorsByName;
  readonly state: TensorsByName;
  readonly trunk: TensorsByName;
};
type WithAdjoint<Input> = Input & { readonly adjoint: TensorsByName };

/** Functions of tensors alone: they close over engine, spec and plan, and over no job. */
export interface AdaptationStages {
  readonly start: (input: BatchInput) => LoopState;
  readonly supportTrunk: (input: BatchInput) => TrunkPass;
  /** One inner step: all are alike. */
  readonly step: (input: StepInput) => StepOutput;
  /** The query loss and its gradient; the gradient of personal blocks is by task. */
  readonly query: (input: QueryInput) => QueryGradient;
  readonly stepAdjoint: (input: WithAdjoint<StepInput>) => StepGradient;
  readonly supportTrunkAdjoint: (input: WithAdjoint<BatchInput>) => SharedGradient;
  readonly startAdjoint: (input: WithAdjoint<BatchInput>) => SharedGradient;
  /** The gradient before any adaptation. */
  readonly unadapted: (input: BatchInput & { readonly weights: tfjs.Tensor1D }) => SharedGradient;
}

/** Makes a function of tensors run as a unit: captured, or within a `tf.tidy`. */
export type StageMaker = <In extends TensorStructure, Out extends TensorStructure>(
  name: string,
  compute: (input: In) => Out,
) => (input: In) => Out;

export function adaptationStages(
  engine: Engine,
  spec: ModelSpec,
  plan: Pick<MethodPlan, 'innerLoop' | 'cold'>,
  stage: StageMaker,
): AdaptationStages {
  const loop = plan.innerLoop;
  const terms: StageTerms = { engine, spec, loop };
  return {
    start: stage('the start of the inner loop', (input) =>
      startState(loop, adaptingTasksOf(jobTensorsOf(engine, spec, input))),
    ),
    supportTrunk: stage('the trunk pass', (input) => trunkOf(supportOf(terms, input))),
    step: stage('an inner step', (input) => takeStep(terms, input)),
    query: stage('the query gradient', (input) => queryGradient(terms, input)),
    stepAdjoint: stage('the adjoint of an inner step', (input) => stepAdjoint(terms, input)),
    supportTrunkAdjoint: stage('the adjoint of a trunk pass', (input) =>
      adjointOf(terms, input, () => parametricParts(trunkOf(supportOf(terms, input)))),
    ),
    startAdjoint: stage('the adjoint of the start', (input) =>
      adjointOf(terms, input, () =>
        startState(loop, adaptingTasksOf(jobTensorsOf(engine, spec, input))),
      ),
    ),
    unadapted: stage('the cold term', ({ weights, ...input }) => {
      const job = jobTensorsOf(engine, spec, input, weights.shape[0]);
      const { gradients, rowGradient } = unadaptedGradient(job, plan, weights);
      return { dense: Object.fromEntries(gradients), rows: packGroup(rowGradient) };
    }),
  };
}

interface StageTerms {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly loop: InnerLoop;
}

function supportOf({ engine, spec }: StageTerms, input: BatchInput): Pass {
  const pass = passOf(jobTensorsOf(engine, spec, input), 'support', true);
  if (pass === null) throw new Error('the recomputed path has support rows');
  return pass;
}

function takeStep(terms: StageTerms, input: StepInput): StepOutput {
  const { loop } = terms;
  const pass = supportOf(terms, input);
  const tasks = adaptingTasksOf(pass.job);
  const { trunk, state } = input;
  const rates = ratesOf(loop, tasks);
  const { scaledGradients, losses } = stepGradient({ pass, trunk }, state, rates);
  return { state: steppedState(loop, tasks, state, { scaledGradients, rates }), losses };
}

function queryGradient(terms: StageTerms, input: QueryInput): QueryGradient {
  const { engine, spec, loop } = terms;
  const { state, weights, trunk, ...batch } = input;
  const job = jobTensorsOf(engine, spec, batch);
  const support = supportOf(terms, batch);
  const pass = passOf(job, 'query', true);
  if (pass === null) throw new Error('the recomputed path has query rows');
  const blocks = blocksOf(adaptingTasksOf(job), state);
  const compute = (): tfjs.Tensor[] => {
    const basis =
      loop.shift === null ? null : { support, logits: logitsOf({ pass: support, trunk }, blocks) };
    const logits = logitsOf(withTrunk(pass), blocks);
    return [lossesOf(pass, shiftedBy(loop.shift, basis, pass, logits))];
  };
  const inputs = { ...sharedInputs(spec, batch), state, trunk: parametricParts(trunk) };
  const { results, gradients } = gradientsOf(engine.tf, compute, inputs, [weights]);
  return { ...gradients, losses: results[0] as tfjs.Tensor1D };
}

function stepAdjoint(terms: StageTerms, input: WithAdjoint<StepInput>): StepGradient {
  const { trunk, state, adjoint } = input;
  const names = Object.keys(adjoint);
  const compute = (): tfjs.Tensor[] => {
    const moved = takeStep(terms, input);
    return names.map((name) => named(moved.state, name));
  };
  const inputs = { ...sharedInputs(terms.spec, input), state, trunk: parametricParts(trunk) };
  const weights = names.map((name) => named(adjoint, name));
  return gradientsOf(terms.engine.tf, compute, inputs, weights).gradients;
}

function adjointOf(
  { engine, spec }: StageTerms,
  input: WithAdjoint<BatchInput>,
  compute: () => TensorsByName,
): SharedGradient {
  const names = Object.keys(input.adjoint);
  const weights = names.map((name) => named(input.adjoint, name));
  const results = (): tfjs.Tensor[] => {
    const parts = compute();
    return names.map((name) => named(parts, name));
  };
  return gradientsOf(engine.tf, results, sharedInputs(spec, input), weights).gradients;
}

/** The shared variables that learn. */
function sharedInputs({ learned }: ModelSpec, { dense, rows }: BatchInput): SharedGradient {
  return {
    dense: Object.fromEntries(learned.variables.map((name) => [name, named(dense, name)])),
    rows: learned.tables.length > 0 ? packGroup(rows) : {},
  };
}
