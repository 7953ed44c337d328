/** The methods whose starts and steps are computed without TensorFlow. */

import type { MethodConfig } from '../../../shared/methods/methods.js';

const KINDS = [
  'cavia',
  'encoder',
  'fomaml',
  'imaml',
  'maml',
  'maml++',
  'meta-sgd',
  'paml-gate',
  'paml-rate',
  'reptile',
  'shrinkage',
] as const;

export type CoveredMethod = Extract<MethodConfig, { readonly kind: (typeof KINDS)[number] }>;

export function isCoveredMethod(method: MethodConfig): method is CoveredMethod {
  return KINDS.some((kind) => kind === method.kind) && !readsNeighbours(method);
}

/** A method as refusals name it. */
export function methodInWords(method: MethodConfig): string {
  return readsNeighbours(method) ? `${method.kind} with neighbours` : method.kind;
}

/** Whether other adgroups are read, of which a bundle has no rows. */
function readsNeighbours(method: MethodConfig): boolean {
  return method.kind === 'paml-gate' && method.neighbours !== undefined;
}
