/** The list of methods: a new one is a file beside this and a case here. */

import { assertNever } from '../../../shared/errors.js';
import type { GradientWork } from '../../../shared/protocol.js';
import { fomaml } from './fomaml.js';
import { globalMethod } from './global.js';
import type { JobTensors, MethodResult, TaskWeights } from './method.js';

export function runMethod(
  method: GradientWork['method'],
  job: JobTensors,
  taskWeights: TaskWeights,
): MethodResult {
  switch (method.kind) {
    case 'fomaml':
      return fomaml(job, taskWeights, method);
    case 'global':
      return globalMethod(job, taskWeights.warm);
    default:
      return assertNever(method);
  }
}
