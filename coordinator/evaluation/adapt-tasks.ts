/**
 * Obtains adapted tasks from the workers: cuts tasks into `adapt` jobs, checks the results and yields
 * them wave by wave, so that any number of tasks streams through bounded memory.
 */

import {
  adaptedLayoutOf,
  type AdaptedTask,
  areFinite,
  decodeAdaptedTasks,
} from '../../shared/bundle/adapted-tasks.js';
import type { Adaptation, AdaptWork } from '../../shared/queue/protocol.js';
import type { Rejection } from '../dispatch/dispatcher.js';
import {
  type AdaptableModel,
  decodedOr,
  type JobWave,
  type TaskChunk,
  type TaskJobContext,
  taskWaves,
  waveValues,
  withEncodedParameters,
} from './task-jobs.js';

export interface AdaptRequest extends AdaptableModel {
  readonly taskIndices: readonly number[];
  readonly adaptation: Adaptation;
  /** The rows that tasks adapt on: their support rows, or all of them. */
  readonly rows: AdaptWork['rows'];
}

/** Adapted tasks that follow one another in the request. */
export interface AdaptedWave {
  readonly tasks: readonly AdaptedTask[];
  /** Prior variances of the shift's level and of each feature's values; null without a shift. */
  readonly shiftVariances: Float32Array | null;
}

/** Yields every task of the request once, in its order, whatever the order of arrival. */
export async function* adaptTasks(
  context: TaskJobContext,
  request: AdaptRequest,
): AsyncGenerator<AdaptedWave> {
  const { method, adaptation, rows } = request;
  const layout = adaptedLayoutOf(context.spec, request);
  const model = withEncodedParameters(context, request);
  const read = (output: Uint8Array, taskIndices: readonly number[]): AdaptedWave | Rejection => {
    const adapted = decodedOr(() =>
      decodeAdaptedTasks(output, layout, taskIndices, 'output of an adapt job'),
    );
    if (adapted === 'layout_mismatch') return adapted;
    return areFinite(adapted) ? adapted : 'not_finite';
  };
  const waves = async function* (): AsyncGenerator<JobWave<TaskChunk, AdaptedWave>> {
    for await (const chunks of taskWaves(context, request.taskIndices))
      yield {
        chunks,
        workOf: (division) => ({ kind: 'adapt', method, adaptation, rows, ...division }),
        read: (output, { tasks }) =>
          read(
            output,
            tasks.map(({ taskIndex }) => taskIndex),
          ),
      };
  };
  for await (const { values } of waveValues(context, model, waves())) {
    const tasks = values.flatMap((each) => each.tasks);
    yield { tasks, shiftVariances: values[0]?.shiftVariances ?? null };
    context.onTasksDone(tasks.length);
  }
}
