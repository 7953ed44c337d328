/**
 * The displacement path: the outer gradient of personal blocks is the distance that tasks moved,
 *
 *   g = sum_i w_i (start_i - phi_i)                      personal blocks
 *   g = sum_i w_i * grad L(phi_i ; Q_i), phi_i fixed     everything else
 *
 * phi_i being the blocks after the steps on the support rows and, if so, as many on the query rows.
 * No derivative through the steps is needed.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { OuterGradient } from '../../../shared/methods/inner-loop/method.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { byTask, descended, startState, type LoopState } from './inner-loop.js';
import { named } from './tensors-by-name.js';
import { passOf, type JobTensors, type MetaGradientResult } from './passes.js';
import { queryGradientAt } from './query-gradient.js';

type Displacement = Extract<OuterGradient, { kind: 'displacement' }>;

export function displacementGradient(
  job: JobTensors,
  loop: InnerLoop,
  { continuesOnQuery }: Displacement,
  weights: tfjs.Tensor1D,
): MetaGradientResult {
  const { tf } = job.engine;
  const { personal } = adaptingTasksOf(job);
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  const start = startState(loop, adaptingTasksOf(job));
  const adapted = support === null ? null : descended(loop, support, start);
  let end: LoopState = adapted?.state ?? start;
  if (continuesOnQuery && query !== null) end = descended(loop, query, end).state;
  const moved = personal.map((name): [string, tfjs.Tensor] => {
    const displacement = tf.sub(named(start, name), named(end, name));
    return [name, tf.sum(tf.mul(displacement, byTask(tf, weights, displacement.rank)), 0)];
  });
  const rest =
    query === null ? null : queryGradientAt(job, loop, { support, query, state: end }, weights);
  return {
    gradients: new Map([...Object.entries(rest?.dense ?? {}), ...moved]),
    rowGradient: rest?.rows ?? null,
    queryLosses: rest?.losses ?? null,
    supportLosses: adapted?.losses ?? null,
  };
}
