/** Variables of a model as tensors, by name. */

import type * as tfjs from '@tensorflow/tfjs';

export type Variables = ReadonlyMap<string, tfjs.Tensor>;

export function variableOf(variables: Variables, name: string): tfjs.Tensor {
  const variable = variables.get(name);
  if (variable === undefined) throw new Error(`the forward pass has no variable ${name}`);
  return variable;
}
