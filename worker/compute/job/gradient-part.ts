/** The gradient of a job, or of a part of one, and the bytes of a part. It needs no tensor library. */

import { lossTensorsOf, type TaskLosses } from '../../../shared/queue/blobs/gradient-losses.js';
import type { MicroBatchRange } from '../../../shared/tasks/rows/micro-batch-range.js';
import { encodeTensors, type CodedTensor } from '../../../shared/tensors/tensor-codec.js';
import type { GradientSums } from './gradient-sums.js';

export interface JobGradient {
  /** Of every learned variable, and of `rows` `[learnedRowCount, tableRowWidth]`. */
  readonly sums: GradientSums;
  readonly losses: TaskLosses;
  /** The places of the tasks that were computed, in the order of micro-batches. */
  readonly taskPlaces: readonly number[];
}

/** A single micro-batch has the 32-bit values that it was computed with. */
export function encodePart(
  { sums, losses, taskPlaces }: JobGradient,
  { first, end }: MicroBatchRange,
): Uint8Array {
  const gradients: ReadonlyMap<string, CodedTensor> =
    end - first === 1 ? sums.rounded() : sums.exact();
  return encodeTensors(new Map([...gradients, ...lossTensorsOf(losses, taskPlaces)]));
}
