/** Reads the result of a gradient job: the job gradient, a weighted sum of task gradients. */

import { QianmoError } from '../../../shared/base/errors.js';
import { learnedRowsOf, learnedVariables } from '../../../shared/models/learned-parameters.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { JobResult } from '../../../shared/queue/protocol.js';
import type { RowPackLayout } from '../../../shared/tasks/row-pack.js';
import type { DenseTensor, NamedTensors } from '../../../shared/tensors/named-tensors.js';
import { layoutDifferences } from '../../../shared/tensors/named-tensors.js';
import { floatsOf, type TensorEncoding } from '../../../shared/tensors/rounded-tensors.js';
import { viewTensors, type CodedTensor } from '../../../shared/tensors/tensor-codec.js';
import type { ReadResult } from '../../dispatch/dispatcher.js';
import type { JobSizes } from '../../plan/job-sizes.js';
import type { StepPlan } from '../../plan/step-plan.js';
import type { SizedJobLosses } from '../losses/loss-sums.js';

/** The shapes that the gradients of one outer step must have. */
export interface GradientShapes {
  readonly spec: ModelSpec;
  /** By job index. */
  readonly layouts: readonly RowPackLayout[];
  /** Sums by job index; absent where nobody asks for losses by size. */
  readonly sizes?: readonly JobSizes[];
  /** That of every output; 32-bit floats when absent. */
  readonly encoding?: TensorEncoding | undefined;
}

/** Its arrays are views on the output that it was read from, unless that was rounded. */
export interface JobGradient {
  readonly jobIndex: number;
  /** Dense variables by name. */
  readonly dense: NamedTensors;
  /** `[learnedRowCount, tableRowWidth]`, see `protocol.ts`. */
  readonly rows: Float32Array;
  readonly weightedQueryLoss: number;
  readonly weightedSupportLoss: number;
  /** Null where the result has none. */
  readonly weightedQueryLossBefore: number | null;
  /** Null where the result has none. */
  readonly bySize: SizedJobLosses | null;
  /** To be called when nobody reads its arrays any more; absent where their memory is not used again. */
  readonly release?: (() => void) | undefined;
}

export function gradientShapesOf(
  plan: StepPlan,
  spec: ModelSpec,
  encoding?: TensorEncoding,
): GradientShapes {
  const [layouts, sizes] = [
    plan.jobs.map(({ layout }) => layout),
    plan.jobs.map(({ sizes }) => sizes),
  ];
  return { spec, layouts, sizes, encoding };
}

/** Returns whether a gradient of this norm may count, and notes it if so. */
export type JudgeNorm = (gradient: {
  readonly jobIndex: number;
  readonly norm: number;
  readonly isConfirmed: boolean;
}) => boolean;

/** Refuses what has another layout than its job asked for, what is not finite, and what is doubted. */
export function gradientReader(
  { spec, layouts, sizes, encoding = 'float32' }: GradientShapes,
  judgeNorm: JudgeNorm = () => true,
): ReadResult<JobGradient> {
  return ({ result, output, isConfirmed, release }) => {
    const { jobIndex, weightedQueryLoss, weightedSupportLoss } = result;
    const { weightedQueryLossBefore = null } = result;
    const layout = layouts[jobIndex];
    if (layout === undefined) return 'not_of_this_step';
    const found = decodedOrNull(output, encoding);
    if (found === null || layoutDifferences(found, gradientLayout(spec, layout)).length > 0)
      return 'layout_mismatch';
    if (!Number.isFinite(weightedQueryLoss) || !Number.isFinite(weightedSupportLoss))
      return 'not_finite';
    const bySize = sizedLossesOf(result, sizes?.[jobIndex]);
    if (bySize === 'unlike') return 'layout_mismatch';
    const norm = normOf(found);
    if (!Number.isFinite(norm)) return 'not_finite';
    if (!judgeNorm({ jobIndex, norm, isConfirmed })) return 'norm_exceeded';

    const rows = found.get('rows');
    if (rows === undefined) throw new Error('a checked layout has rows');
    found.delete('rows');
    const losses = {
      ...{ weightedQueryLoss, weightedSupportLoss, weightedQueryLossBefore },
      bySize,
    };
    return { jobIndex, dense: found, rows: rows.values, ...losses, release };
  };
}

/** Null where there are none, and `unlike` where they are not those of the job's buckets. */
export function sizedLossesOf(
  { lossesBySize: losses }: Pick<JobResult, 'lossesBySize'>,
  sizes: JobSizes | undefined,
): SizedJobLosses | 'unlike' | null {
  if (losses === undefined || sizes === undefined) return null;
  const bucketCount = sizes.taskCounts.findLastIndex((count) => count > 0) + 1;
  const { query, support, queryBefore = query } = losses;
  const isLike = [query, support, queryBefore].every(({ length }) => length === bucketCount);
  return isLike ? { taskCounts: sizes.taskCounts, weights: sizes.weights, losses } : 'unlike';
}

function decodedOrNull(
  output: Uint8Array,
  encoding: TensorEncoding,
): Map<string, DenseTensor> | null {
  try {
    return floatsOf(viewTensors(output, 'gradient'), encoding);
  } catch (error) {
    if (error instanceof QianmoError) return null;
    throw error;
  }
}

/** Names and shapes of a gradient; the values are not read. */
export function gradientLayout(spec: ModelSpec, layout: RowPackLayout): NamedTensors {
  const values = new Float32Array(0);
  const expected = new Map<string, DenseTensor>();
  for (const { name, shape } of learnedVariables(spec)) expected.set(name, { shape, values });
  const { rowCount } = learnedRowsOf(spec, layout);
  expected.set('rows', { shape: [rowCount, spec.tableRowWidth], values });
  return expected;
}

/** The L2 norm. It is finite if and only if all values are: squares of float32 fit into float64. */
export function normOf(tensors: ReadonlyMap<string, CodedTensor>): number {
  let squares = 0;
  for (const { values } of tensors.values())
    for (let index = 0; index < values.length; index += 1) squares += (values[index] ?? NaN) ** 2;
  return Math.sqrt(squares);
}
