/** The list of methods: a new one is a file beside this and a case here. */

import type * as tfjs from '@tensorflow/tfjs';
import { assertNever } from '../../../shared/errors.js';
import type { GradientWork } from '../../../shared/protocol.js';
import { fomaml } from './fomaml.js';
import { globalMethod } from './global.js';
import type { JobTensors, MethodResult } from './method.js';

export function runMethod(
  method: GradientWork['method'],
  job: JobTensors,
  taskWeights: tfjs.Tensor1D,
): MethodResult {
  switch (method.kind) {
    case 'fomaml':
      return fomaml(job, taskWeights, method);
    case 'global':
      return globalMethod(job, taskWeights);
    default:
      return assertNever(method);
  }
}
