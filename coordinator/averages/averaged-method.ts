/**
 * The method of the average of several models. A mean of outputs adapts as its members do where they adapt alike, or where
 * encoders make the blocks of some of them: encodings of rows and of tasks side by side make the blocks of all. Pure.
 */

import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { MethodConfig } from '../../shared/methods/methods.js';

type Encoder = Extract<MethodConfig, { kind: 'encoder' }>;

/** Null if no single method adapts the mean as these adapt their models. */
export function averagedMethod(methods: readonly MethodConfig[]): MethodConfig | null {
  const [first] = methods;
  const encoders = methods.filter(isEncoder);
  const [encoder] = encoders;
  if (first === undefined) return null;
  if (encoder === undefined) return areAlike(methods) ? first : null;
  const others = methods.filter((method) => !isEncoder(method));
  const isSummed =
    others.every(({ kind }) => kind === 'global') &&
    encoders.every(isOfSummedForm) &&
    areAlike(encoders.map((each) => ({ ...each, rowWidth: 0, taskWidth: 0 })));
  if (!isSummed) return null;
  return {
    ...encoder,
    rowWidth: encoders.reduce((sum, { rowWidth }) => sum + rowWidth, 0),
    taskWidth: encoders.reduce((sum, { taskWidth }) => sum + taskWidth, 0),
  };
}

export function isEncoder(method: MethodConfig): method is Encoder {
  return method.kind === 'encoder';
}

/** Linear weights of the average are means, in which those that an encoder has read are lost; steps go along the gradient of one model. */
function isOfSummedForm({ innerSteps, linearWeights, features }: Encoder): boolean {
  return innerSteps === 0 && linearWeights === false && features === undefined;
}

function areAlike(methods: readonly object[]): boolean {
  return new Set(methods.map((method) => canonicalJson(method))).size === 1;
}
