/**
 * The recomputed path of second-order MAML: of the inner steps only the blocks between them are
 * held. From the query loss an adjoint is carried back step by step,
 *
 *   v_k = d L(phi_K ; Q) / d phi_k        v_(k-1) = v_k - innerRate * H_k v_k
 *
 * where H_k is the Hessian of the support loss at phi_(k-1), whose forward pass is computed again,
 * and each step adds what it says of the trunk. Memory is that of one step, whatever their number.
 *
 * Every stage is a function of its own, to be captured by itself: within one graph, common
 * subexpressions would be found and the recomputation undone.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { leavesOf, type TensorStructure } from '../engine/capture/tensor-structure.js';
import type { Engine } from '../engine/load-engine.js';
import { pullBack } from '../engine/pull-back.js';
import type { BatchTensors } from '../models/batch-tensors.js';
import type { TrunkPass } from '../models/forward.js';
import { modelPlanOf } from '../models/model-plan.js';
import { innerStep } from './inner-loop.js';
import { logitsOf, lossesOf, lossGradient, trunkOf, type Pass } from './method.js';

export type NamedTensors = { readonly [name: string]: tfjs.Tensor };

export type TrunkInput = {
  /** The shared variables. */
  readonly trunk: NamedTensors;
  /** The row pack, where the model has tables. */
  readonly rows?: tfjs.Tensor2D;
  readonly batch: BatchTensors;
};
/** What the trunk pass of the support rows gives to all inner steps, once. */
export type StepInput = {
  readonly trunk: NamedTensors;
  readonly shared: TrunkPass;
  readonly personal: NamedTensors;
  readonly batch: Pick<BatchTensors, 'impressionShares' | 'clickShares'>;
};
export type StepOutput = { readonly personal: NamedTensors; readonly losses: tfjs.Tensor1D };
export type QueryInput = TrunkInput & {
  readonly personal: NamedTensors;
  readonly weights: tfjs.Tensor1D;
};
export type AdjointInput = StepInput & { readonly adjoint: NamedTensors };
export type TrunkAdjointInput = TrunkInput & { readonly adjoint: NamedTensors };
/** Gradients by what they are with respect to; absent where the loss does not depend on it. */
export type TrunkGradient = { readonly trunk: NamedTensors; readonly rows: NamedTensors };
export type QueryGradient = TrunkGradient & StepOutput;
export type StepGradient = {
  readonly personal: NamedTensors;
  readonly shared: NamedTensors;
  readonly trunk: NamedTensors;
};

/** Functions of tensors alone: they close over engine, spec and rate, and over no job. */
export interface MamlStages {
  readonly supportTrunk: (input: TrunkInput) => TrunkPass;
  readonly step: (input: StepInput) => StepOutput;
  /** The query loss and its gradient; that of the personal blocks by task. */
  readonly query: (input: QueryInput) => QueryGradient;
  readonly stepAdjoint: (input: AdjointInput) => StepGradient;
  readonly supportTrunkAdjoint: (input: TrunkAdjointInput) => TrunkGradient;
  /** The gradient before any adaptation; all variables are shared then. */
  readonly unadapted: (input: TrunkInput & { readonly weights: tfjs.Tensor1D }) => TrunkGradient;
}

/** Makes a function of tensors one that runs as a unit: captured, or within a `tf.tidy`. */
export type StageMaker = <In extends TensorStructure, Out extends TensorStructure>(
  name: string,
  compute: (input: In) => Out,
) => (input: In) => Out;

export function mamlStages(
  engine: Engine,
  spec: ModelSpec,
  innerRate: number,
  stage: StageMaker,
): MamlStages {
  const terms: StageTerms = { engine, spec, innerRate };
  return {
    supportTrunk: stage('the trunk pass of support rows', ({ trunk, rows, batch }: TrunkInput) =>
      trunkOf(passOf(terms, trunk, batch, rows)),
    ),
    step: stage('an inner step', (input: StepInput) => stepped(terms, input)),
    query: stage('the query gradient', (input: QueryInput) => queryGradient(terms, input)),
    stepAdjoint: stage('the adjoint of an inner step', (input: AdjointInput) =>
      stepAdjoint(terms, input),
    ),
    supportTrunkAdjoint: stage('the adjoint of a trunk pass', (input: TrunkAdjointInput) =>
      trunkAdjoint(terms, input),
    ),
    unadapted: stage('the cold term', ({ trunk, rows, batch, weights }) => {
      const pass = passOf(terms, trunk, batch, rows, false);
      const { gradients, rowGradient } = lossGradient(pass, new Map(), weights);
      return {
        trunk: Object.fromEntries(gradients),
        rows: rowGradient === null ? {} : { rows: rowGradient },
      };
    }),
  };
}

interface StageTerms {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly innerRate: number;
}

function passOf(
  { engine, spec }: StageTerms,
  trunk: NamedTensors,
  data: BatchTensors,
  rows: tfjs.Tensor2D | null = null,
  adapts = true,
): Pass {
  const taskCount = data.impressionShares.shape[0];
  const dense = new Map(Object.entries(trunk));
  return {
    plan: modelPlanOf(spec, adapts),
    data,
    job: { engine, spec, taskCount, dense, rows, batchOf: () => null },
  };
}

function stepped(terms: StageTerms, { trunk, shared, personal, batch }: StepInput): StepOutput {
  const blocks = new Map(Object.entries(personal));
  const moved = innerStep(passOf(terms, trunk, batch), shared, blocks, terms.innerRate);
  return { personal: Object.fromEntries(moved.personal), losses: moved.losses };
}

function queryGradient(terms: StageTerms, input: QueryInput): QueryGradient {
  const { trunk, rows, batch, personal, weights } = input;
  const pass = passOf(terms, trunk, batch, rows);
  const blocks = new Map(Object.entries(personal));
  const { results, gradients } = gradientsOf(
    terms.engine.tf,
    () => [lossesOf(pass, logitsOf(pass, trunkOf(pass), blocks))],
    { trunk, personal, rows: rows === undefined ? {} : { rows } },
    [weights],
  );
  return { ...gradients, losses: results[0] as tfjs.Tensor1D };
}

function stepAdjoint(terms: StageTerms, input: AdjointInput): StepGradient {
  const { trunk, shared, personal, adjoint } = input;
  const names = Object.keys(personal);
  const compute = (): tfjs.Tensor[] => {
    const moved = stepped(terms, input);
    return names.map((name) => named(moved.personal, name));
  };
  const inputs = { trunk, personal, shared: parametricParts(shared) };
  const weights = names.map((name) => named(adjoint, name));
  return gradientsOf(terms.engine.tf, compute, inputs, weights).gradients;
}

function trunkAdjoint(terms: StageTerms, input: TrunkAdjointInput): TrunkGradient {
  const { trunk, rows, batch, adjoint } = input;
  const names = Object.keys(adjoint);
  const compute = (): tfjs.Tensor[] => {
    const parts = parametricParts(trunkOf(passOf(terms, trunk, batch, rows)));
    return names.map((name) => named(parts, name));
  };
  const inputs = { trunk, rows: rows === undefined ? {} : { rows } };
  const weights = names.map((name) => named(adjoint, name));
  return gradientsOf(terms.engine.tf, compute, inputs, weights).gradients;
}

/** What of a trunk pass depends on parameters: not the numbers, which are data. */
function parametricParts({ logits, sums, hidden }: TrunkPass): NamedTensors {
  return {
    logits,
    ...(sums === undefined ? {} : { sums }),
    ...(hidden === undefined ? {} : { hidden }),
  };
}

/** Stages as they are, the tensors made on the way freed after each. */
export function tidyStage({ tf }: Engine): StageMaker {
  return (_name, compute) => (input) => {
    const results: ReturnType<typeof compute>[] = [];
    tf.tidy(() => {
      const result = compute(input);
      results.push(result);
      return leavesOf(result).map(({ tensor }) => tensor);
    });
    return results[0] as ReturnType<typeof compute>;
  };
}

type Groups<Name extends string> = { readonly [Group in Name]: NamedTensors };

/** `pullBack` by name; what no weighted result depends on has no gradient. */
function gradientsOf<Group extends string>(
  tf: typeof tfjs,
  compute: () => readonly tfjs.Tensor[],
  inputs: Groups<Group>,
  weights: readonly tfjs.Tensor[],
): { readonly results: readonly tfjs.Tensor[]; readonly gradients: Groups<Group> } {
  const places = (Object.keys(inputs) as Group[]).flatMap((group) =>
    Object.entries(inputs[group]).map(([name, tensor]) => ({ group, name, tensor })),
  );
  const pulled = pullBack(
    tf,
    compute,
    places.map(({ tensor }) => tensor),
    weights,
  );
  const gradients: Record<string, NamedTensors> = {};
  for (const group of Object.keys(inputs)) gradients[group] = {};
  for (const [place, { group, name }] of places.entries()) {
    const gradient = pulled.gradients[place] ?? null;
    if (gradient !== null) gradients[group] = { ...gradients[group], [name]: gradient };
  }
  // Every group has its record.
  return { results: pulled.results, gradients: gradients as Groups<Group> };
}

export function packIn(rows: NamedTensors): tfjs.Tensor2D | null {
  return (rows['rows'] as tfjs.Tensor2D | undefined) ?? null;
}

export function named(tensors: NamedTensors, name: string): tfjs.Tensor {
  const tensor = tensors[name];
  if (tensor === undefined) throw new Error(`no tensor ${name}`);
  return tensor;
}
