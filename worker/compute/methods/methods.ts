/** The list of methods: a new one is a file beside this and a case here. */

import { assertNever } from '../../../shared/errors.js';
import type { GradientWork } from '../../../shared/protocol.js';
import { fomaml } from './fomaml.js';
import { globalMethod } from './global.js';
import { maml } from './maml.js';
import type { RowRole } from '../row-batch.js';
import type { JobTensors, MethodResult, TaskWeights } from './method.js';

export function runMethod(
  method: GradientWork['method'],
  job: JobTensors,
  taskWeights: TaskWeights,
): MethodResult {
  switch (method.kind) {
    case 'fomaml':
      return fomaml(job, taskWeights, method);
    case 'maml':
      return maml(job, taskWeights, method);
    case 'global':
      return globalMethod(job, taskWeights.warm);
    default:
      return assertNever(method);
  }
}

/** The roles whose rows a method reads. */
export function rolesOf(method: GradientWork['method']): readonly RowRole[] {
  switch (method.kind) {
    case 'fomaml':
    case 'maml':
      return method.coldShare > 0 ? ['support', 'query', 'all'] : ['support', 'query'];
    case 'global':
      return ['all'];
    default:
      return assertNever(method);
  }
}

/** Whether the outer loss has a cold term, with weights of its own. */
export function hasColdTerm(method: GradientWork['method']): boolean {
  return method.kind !== 'global' && method.coldShare > 0;
}
