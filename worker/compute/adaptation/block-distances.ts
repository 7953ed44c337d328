/** The distances of blocks from their start: by task and personal variable, the L2 norm of what adaptation added. */

import { float32At } from '../../../shared/base/arrays.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import { named } from '../meta-gradients/tensors-by-name.js';
import type { AdaptingBatch } from './adapting-batch.js';

/** Variables in the order of the spec, `[taskCount, variableCount]`. Sums are in float64. */
export function blockDistances(
  { job, microBatch, initial }: Pick<AdaptingBatch, 'job' | 'microBatch' | 'initial'>,
  state: LoopState,
): Float64Array {
  const { taskCount } = microBatch;
  const variables = job.spec.variables.filter(({ block }) => block === 'personal');
  const distances = new Float64Array(taskCount * variables.length);
  if (state === initial) return distances;
  for (const [column, { name }] of variables.entries()) {
    const before = named(initial, name).dataSync<'float32'>();
    const after = named(state, name).dataSync<'float32'>();
    const size = after.length / taskCount;
    for (let task = 0; task < taskCount; task += 1) {
      let sum = 0;
      for (let place = task * size; place < (task + 1) * size; place += 1)
        sum += (float32At(after, place) - float32At(before, place)) ** 2;
      distances[task * variables.length + column] = Math.sqrt(sum);
    }
  }
  return distances;
}
