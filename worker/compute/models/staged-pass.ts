/**
 * Divides a forward pass, written once, into two passes. A value belongs to one of three stages:
 *
 *   variables   computed from shared variables alone, in either pass
 *   trunk       computed from rows and shared variables, in the trunk pass, once per batch
 *   personal    depends on personal blocks; computed in the personal pass, which inner steps run and
 *               differentiate
 *
 * Both passes run the same code. The trunk pass hands over, by name, each trunk value that a personal
 * value depends on. The personal pass takes it and computes nothing below it. A value is computed at
 * its first use, and once.
 *
 * Rows are `[placeCount, ...]` in the trunk pass. In the personal pass they are grouped by task,
 * `[taskCount, rowExtent, ...]` (or `[taskCount, 1, ...]` if all rows of a task share the value), to be
 * combined with the task's own variables, `[taskCount, ...]`.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Staged } from '../../../shared/models/kinds/model-definition.js';

/** Variables of a model, by name. */
export type Variables = ReadonlyMap<string, tfjs.Tensor>;

export function variableOf(variables: Variables, name: string): tfjs.Tensor {
  const variable = variables.get(name);
  if (variable === undefined) throw new Error(`the forward pass has no variable ${name}`);
  return variable;
}

/** The values that a trunk pass hands over, by name. */
export type TrunkPass = { readonly [name: string]: tfjs.Tensor };

export interface StagedPass {
  readonly variable: (name: string) => Staged;
  /** A value computed from rows and shared variables. */
  readonly ofRows: (name: string, compute: () => tfjs.Tensor) => Staged;
  /** @param name unique within the forward pass. */
  readonly apply: (
    name: string,
    inputs: readonly Staged[],
    compute: (...tensors: tfjs.Tensor[]) => tfjs.Tensor,
  ) => Staged;
}

interface Stages {
  readonly personalNames: ReadonlySet<string>;
  readonly variables: (name: string) => tfjs.Tensor;
  /** Null in the personal pass. */
  readonly handOver: ((value: Staged) => void) | null;
  /** Null in the trunk pass. */
  readonly takeOver: ((name: string) => tfjs.Tensor) | null;
}

/** The pass that computes trunk values; `handedOver` is complete when `forward` has run. */
export function trunkStage(
  tf: typeof tfjs,
  personalNames: ReadonlySet<string>,
  trunk: Variables,
  [taskCount, rowExtent]: readonly [number, number],
): { readonly pass: StagedPass; readonly handedOver: TrunkPass } {
  const handedOver: Record<string, tfjs.Tensor> = {};
  const pass = stagedPass({
    personalNames,
    variables: (name) => variableOf(trunk, name),
    handOver: ({ name, tensor }) => {
      if (handedOver[name] !== undefined) return;
      const [, ...rest] = tensor().shape;
      handedOver[name] = tf.reshape(tensor(), [taskCount, rowExtent, ...rest]);
    },
    takeOver: null,
  });
  return { pass, handedOver };
}

export function personalStage(
  personalNames: ReadonlySet<string>,
  handedOver: TrunkPass,
  trunk: Variables,
  personal: Variables,
): StagedPass {
  return stagedPass({
    personalNames,
    variables: (name) => variableOf(personalNames.has(name) ? personal : trunk, name),
    handOver: null,
    takeOver: (name) => {
      const tensor = handedOver[name];
      if (tensor === undefined) throw new Error(`the trunk pass handed over no ${name}`);
      return tensor;
    },
  });
}

function stagedPass({ personalNames, variables, handOver, takeOver }: Stages): StagedPass {
  const names = new Set<string>();
  const valueOf = (stage: Staged['stage'], name: string, compute: () => tfjs.Tensor): Staged => {
    if (names.has(name)) throw new Error(`two values of a forward pass are named ${name}`);
    names.add(name);
    if (stage === 'trunk' && takeOver !== null)
      return { stage, name, tensor: () => takeOver(name) };
    let known: tfjs.Tensor | null = null;
    return { stage, name, tensor: () => (known ??= compute()) };
  };
  return {
    variable: (name) => ({
      stage: personalNames.has(name) ? 'personal' : 'variables',
      name,
      tensor: () => variables(name),
    }),
    ofRows: (name, compute) => valueOf('trunk', name, compute),
    apply: (name, inputs, compute) => {
      const stage = stageOf(inputs);
      if (stage === 'personal' && handOver !== null)
        for (const input of inputs) if (input.stage === 'trunk') handOver(input);
      return valueOf(stage, name, () => compute(...inputs.map(({ tensor }) => tensor())));
    },
  };
}

function stageOf(inputs: readonly Staged[]): Staged['stage'] {
  if (inputs.some(({ stage }) => stage === 'personal')) return 'personal';
  return inputs.some(({ stage }) => stage === 'trunk') ? 'trunk' : 'variables';
}
