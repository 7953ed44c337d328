/** Tensors by name as captured functions pass them on, and gradients by name. */

import type * as tfjs from '@tensorflow/tfjs';
import { pullBack } from '../engine/pull-back.js';

export type TensorsByName = { readonly [name: string]: tfjs.Tensor };
type Groups<Name extends string> = { readonly [Group in Name]: TensorsByName };

export function named(tensors: TensorsByName, name: string): tfjs.Tensor {
  const tensor = tensors[name];
  if (tensor === undefined) throw new Error(`no tensor ${name}`);
  return tensor;
}

/** `pullBack` by name; what no weighted result depends on has no gradient. */
export function gradientsOf<Group extends string>(
  tf: typeof tfjs,
  compute: () => readonly tfjs.Tensor[],
  inputs: Groups<Group>,
  weights: readonly (tfjs.Tensor | null)[],
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
  const gradients: Record<string, TensorsByName> = {};
  for (const group of Object.keys(inputs)) gradients[group] = {};
  for (const [place, { group, name }] of places.entries()) {
    const gradient = pulled.gradients[place] ?? null;
    if (gradient !== null) gradients[group] = { ...gradients[group], [name]: gradient };
  }
  // Every group has its record.
  return { results: pulled.results, gradients: gradients as Groups<Group> };
}

/** The row pack as a group of inputs of its own: empty when there is none. */
export function packGroup(rows: tfjs.Tensor2D | null | undefined): TensorsByName {
  return rows === null || rows === undefined ? {} : { rows };
}

export function packIn(rows: TensorsByName): tfjs.Tensor2D | null {
  return (rows['rows'] as tfjs.Tensor2D | undefined) ?? null;
}
