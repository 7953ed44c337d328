/** Reads the results of an outer step whose jobs may be divided: whole jobs, and parts of jobs. */

import { at } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  areTaskLossesFinite,
  lossTensorShapes,
} from '../../../shared/queue/blobs/gradient-losses.js';
import type { MicroBatchRange } from '../../../shared/tasks/rows/micro-batch-range.js';
import {
  elementCountOf,
  layoutDifferences,
  type TensorLayout,
} from '../../../shared/tensors/named-tensors.js';
import {
  viewTensors,
  type CodedTensor,
  type TensorValues,
} from '../../../shared/tensors/tensor-codec.js';
import type { DeliveredResult, ReadResult, Rejection } from '../../dispatch/dispatcher.js';
import type { JobPart } from '../../plan/orders/job-parts.js';
import {
  gradientLayout,
  gradientReader,
  normOf,
  type GradientShapes,
  type JobGradient,
  type JudgeNorm,
} from './job-gradient.js';

/** The largest float32. No value is larger than the norm, so most sums need no further look. */
export const FLOAT32_MAX = (2 - 2 ** -23) * 2 ** 127;

/** The gradients of a part of a job, and the losses of its tasks. */
export interface PartGradient {
  readonly part: JobPart;
  /** Views on the output that it was read from. */
  readonly tensors: ReadonlyMap<string, CodedTensor>;
  /** The L2 norm of its gradients. */
  readonly norm: number;
  readonly release?: (() => void) | undefined;
}

export interface PartShapes extends GradientShapes {
  /** By the index of the job that travels. */
  readonly parts: readonly JobPart[];
  /** Whether losses before adaptation are asked for. */
  readonly asksBefore: boolean;
}

/** The names and shapes of the tensors of a part, and the losses of as many tasks as a divided job has. */
const BESIDE_GRADIENTS_BYTE_COUNT_MAX = 64 * 1024;

/** The most bytes that the output of a part of the job may have: sums are in float64. */
export function partByteCountMax(
  { spec, layouts }: Pick<GradientShapes, 'spec' | 'layouts'>,
  jobIndex: number,
): number {
  const gradients = [...gradientLayout(spec, at(layouts, jobIndex)).values()];
  const valueCount = gradients.reduce((sum, { shape }) => sum + elementCountOf(shape), 0);
  return valueCount * Float64Array.BYTES_PER_ELEMENT + BESIDE_GRADIENTS_BYTE_COUNT_MAX;
}

/**
 * Refuses what `gradientReader` refuses, of parts as well.
 *
 * @param judgeNorm of the jobs that travel.
 */
export function partReader(
  shapes: PartShapes,
  judgeNorm: JudgeNorm = () => true,
): ReadResult<JobGradient | PartGradient> {
  const readWhole = gradientReader(shapes, judgeNorm);
  return (delivered) => {
    const part = shapes.parts[delivered.result.jobIndex];
    const range = part?.microBatches ?? null;
    if (part === undefined || range === null) return readWhole(delivered);
    return readPart(delivered, { part, range, shapes, judgeNorm });
  };
}

interface PartTerms {
  readonly part: JobPart;
  readonly range: MicroBatchRange;
  readonly shapes: PartShapes;
  readonly judgeNorm: JudgeNorm;
}

function readPart(
  { result, output, isConfirmed, release }: DeliveredResult,
  { part, range, shapes, judgeNorm }: PartTerms,
): PartGradient | Rejection {
  const tensors = viewedOrNull(output);
  const gradients = gradientLayout(shapes.spec, at(shapes.layouts, part.jobIndex));
  const losses = new Map(
    lossTensorShapes(range.taskCount, shapes.asksBefore).map(([name, shape]) => [name, { shape }]),
  );
  const expected: TensorLayout = new Map([...gradients, ...losses]);
  if (tensors === null || layoutDifferences(tensors, expected).length > 0) return 'layout_mismatch';
  const isSum = range.end - range.first > 1;
  for (const [name, { values }] of tensors) {
    const isExact = isSum && !losses.has(name);
    if (!(isExact ? values instanceof Float64Array : values instanceof Float32Array))
      return 'layout_mismatch';
  }
  const { jobIndex, weightedQueryLoss, weightedSupportLoss } = result;
  if (!Number.isFinite(weightedQueryLoss) || !Number.isFinite(weightedSupportLoss))
    return 'not_finite';
  const ofGradients = [...tensors].filter(([name]) => !losses.has(name));
  const norm = normOf(new Map(ofGradients));
  if (!Number.isFinite(norm) || !areTaskLossesFinite(tensors)) return 'not_finite';
  if (norm > FLOAT32_MAX && !ofGradients.every(([, { values }]) => fitsFloat32(values)))
    return 'not_finite';
  if (!judgeNorm({ jobIndex, norm, isConfirmed })) return 'norm_exceeded';
  return { part, tensors, norm, release };
}

function fitsFloat32(values: TensorValues): boolean {
  return values.every((value) => Number.isFinite(Math.fround(value)));
}

function viewedOrNull(output: Uint8Array): Map<string, CodedTensor> | null {
  try {
    return viewTensors(output, 'gradient');
  } catch (error) {
    if (error instanceof QianmoError) return null;
    throw error;
  }
}
