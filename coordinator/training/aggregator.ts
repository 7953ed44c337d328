/**
 * Decides which results count and adds them up. Pure but for the inbox, which remembers what it
 * admitted during one outer step; it knows no queue and no clock.
 */

import { QianmoError } from '../../shared/base/errors.js';
import {
  learnedRowsOf,
  learnedVariables,
  type LearnedSpan,
} from '../../shared/models/learned-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { DenseTensor, NamedTensors } from '../../shared/tensors/named-tensors.js';
import { layoutDifferences } from '../../shared/tensors/named-tensors.js';
import { decodeTensors, type CodedTensor } from '../../shared/tensors/tensor-codec.js';
import type { DeliveredResult, Rejection } from '../dispatch/dispatcher.js';
import type { MetaGradient, RowGradient } from './meta-optimizer/meta-gradient.js';
import type { StepPlan } from '../plan/step-plan.js';

/** What the results of one outer step must be. */
export interface GradientExpectations {
  readonly runId: string;
  readonly outerStep: number;
  readonly spec: ModelSpec;
  /** By job index. */
  readonly layouts: readonly RowPackLayout[];
  readonly taskCounts: readonly number[];
}

/** One admitted result: the chunk's weighted sum of task gradients. */
export interface JobGradient {
  readonly jobIndex: number;
  /** Dense variables by name. */
  readonly dense: NamedTensors;
  /** `[learnedRowCount, tableRowWidth]`, see `protocol.ts`. */
  readonly rows: Float32Array;
  readonly weightedQueryLoss: number;
  readonly weightedSupportLoss: number;
}

/** Collects the results of one outer step; each delivery is decoded once. */
export interface GradientInbox {
  /** Null when the result was admitted, else why it was not. */
  readonly admit: (delivered: DeliveredResult) => Rejection | null;
  /** In job order, whatever the order of arrival. */
  readonly gradients: () => JobGradient[];
}

export function expectationsOf(
  plan: StepPlan,
  runId: string,
  spec: ModelSpec,
): GradientExpectations {
  return {
    runId,
    outerStep: plan.outerStep,
    spec,
    layouts: plan.jobs.map((job) => job.layout),
    taskCounts: plan.jobs.map((job) => job.taskIndices.length),
  };
}

export function gradientInbox(expectations: GradientExpectations): GradientInbox {
  const admitted = new Map<number, JobGradient>();
  return {
    admit(delivered) {
      const read = readGradient(delivered, expectations, admitted);
      if (typeof read === 'string') return read;
      admitted.set(read.jobIndex, read);
      return null;
    },
    gradients: () => [...admitted.values()].sort((a, b) => a.jobIndex - b.jobIndex),
  };
}

/** The gradient of a delivery that may be aggregated, else the reason why it may not. */
function readGradient(
  { result, output }: DeliveredResult,
  { runId, outerStep, spec, layouts, taskCounts }: GradientExpectations,
  admitted: ReadonlyMap<number, unknown>,
): JobGradient | Rejection {
  const { jobIndex } = result;
  const layout = layouts[jobIndex];
  if (result.runId !== runId || result.outerStep !== outerStep || layout === undefined)
    return 'not_of_this_step';
  if (admitted.has(jobIndex)) return 'duplicate';
  if (result.output.byteCount !== output.byteLength) return 'wrong_blob';
  if (result.taskCount !== taskCounts[jobIndex]) return 'layout_mismatch';

  const tensors = decodedOrNull(output);
  if (tensors === null) return 'layout_mismatch';
  const found = float32Tensors(tensors);
  if (found === null || layoutDifferences(found, gradientLayout(spec, layout)).length > 0)
    return 'layout_mismatch';
  const losses = [result.weightedQueryLoss, result.weightedSupportLoss];
  if (!losses.every(Number.isFinite) || ![...found.values()].every(hasFiniteValues))
    return 'not_finite';

  const rows = found.get('rows');
  if (rows === undefined) throw new Error('a checked layout has rows');
  found.delete('rows');
  return {
    jobIndex,
    dense: found,
    rows: rows.values,
    weightedQueryLoss: result.weightedQueryLoss,
    weightedSupportLoss: result.weightedSupportLoss,
  };
}

function decodedOrNull(output: Uint8Array): Map<string, CodedTensor> | null {
  try {
    return decodeTensors(output, 'gradient');
  } catch (error) {
    if (error instanceof QianmoError) return null;
    throw error;
  }
}

function float32Tensors(
  tensors: ReadonlyMap<string, CodedTensor>,
): Map<string, DenseTensor> | null {
  const found = new Map<string, DenseTensor>();
  for (const [name, { shape, values }] of tensors) {
    if (!(values instanceof Float32Array)) return null;
    found.set(name, { shape, values });
  }
  return found;
}

/** Names and shapes of a gradient; the values are not read. */
function gradientLayout(spec: ModelSpec, layout: RowPackLayout): NamedTensors {
  const values = new Float32Array(0);
  const expected = new Map<string, DenseTensor>();
  for (const { name, shape } of learnedVariables(spec)) expected.set(name, { shape, values });
  const { rowCount } = learnedRowsOf(spec, layout);
  expected.set('rows', { shape: [rowCount, spec.tableRowWidth], values });
  return expected;
}

function hasFiniteValues({ values }: DenseTensor): boolean {
  // 0 * x is 0 for every finite x and NaN for the others: one pass without a branch per value.
  let sum = 0;
  for (let index = 0; index < values.length; index += 1) sum += 0 * (values[index] ?? 0);
  return sum === 0;
}

/**
 * The meta-gradient: sum of the jobs' gradients, whose task weights sum to 1.
 *
 * Sums in job order, not arrival order, in float64, then rounds to float32: float addition is not
 * associative, so arrival order would make two runs of the same seed drift apart.
 */
export function aggregate(
  gradients: readonly JobGradient[],
  { spec, layouts }: Pick<GradientExpectations, 'spec' | 'layouts'>,
): MetaGradient {
  const ordered = [...gradients].sort((a, b) => a.jobIndex - b.jobIndex);
  if (ordered.length !== layouts.length || ordered.some((g, index) => g.jobIndex !== index))
    throw new Error(`expected one gradient of each of ${layouts.length} jobs`);

  const dense = new Map<string, DenseTensor>();
  for (const { name, shape } of learnedVariables(spec)) {
    const addends = ordered.map((gradient) => gradient.dense.get(name)?.values ?? missing(name));
    dense.set(name, { shape, values: sumInOrder(addends) });
  }
  const rows = new Map<string, RowGradient>();
  const spansByJob = layouts.map((layout) => learnedRowsOf(spec, layout).spans);
  for (const [place, name] of spec.learned.tables.entries()) {
    const addends = ordered.map((gradient, index) => {
      const layout = layouts[index] ?? missing(name);
      const span = spansByJob[index]?.[place] ?? missing(name);
      return tableAddendOf(gradient, layout, span, spec.tableRowWidth);
    });
    rows.set(name, sumRowsInOrder(addends, spec.tableRowWidth));
  }
  return { dense, rows };
}

function sumInOrder(addends: readonly Float32Array[]): Float32Array {
  const [only] = addends;
  if (only !== undefined && addends.length === 1) return sumOfOne(only);
  const sums = new Float64Array(addends[0]?.length ?? 0);
  for (const values of addends)
    for (let index = 0; index < sums.length; index += 1)
      sums[index] = (sums[index] ?? 0) + (values[index] ?? 0);
  return new Float32Array(sums);
}

/** What a sum over jobs is of one: 0 + x, which is x but for -0. */
function sumOfOne(addend: Float32Array): Float32Array {
  const sum = new Float32Array(addend.length);
  for (let index = 0; index < sum.length; index += 1) sum[index] = 0 + (addend[index] ?? 0);
  return sum;
}

/** What one job adds to a table. */
interface TableAddend {
  /** Ascending and unique. */
  readonly ids: Int32Array;
  /** `[ids.length, width]` */
  readonly values: Float32Array;
}

function tableAddendOf(
  { rows }: JobGradient,
  { idsByTable }: RowPackLayout,
  { tableIndex, start, rowCount }: LearnedSpan,
  width: number,
): TableAddend {
  return {
    ids: idsByTable[tableIndex] ?? new Int32Array(0),
    values: rows.subarray(start * width, (start + rowCount) * width),
  };
}

function sumRowsInOrder(addends: readonly TableAddend[], width: number): RowGradient {
  const [only] = addends;
  if (only !== undefined && addends.length === 1)
    return { ids: only.ids, values: sumOfOne(only.values) };
  const ids = unionAscending(addends.map((addend) => addend.ids));
  const sums = new Float64Array(ids.length * width);
  for (const { ids: ofJob, values } of addends) {
    let place = 0;
    let from = 0;
    // Both lists of ids ascend, and the union holds every id of the job.
    for (const id of ofJob) {
      while (ids[place] !== id) place += 1;
      for (let to = place * width; to < (place + 1) * width; to += 1, from += 1)
        sums[to] = (sums[to] ?? 0) + (values[from] ?? 0);
    }
  }
  return { ids, values: new Float32Array(sums) };
}

function unionAscending(lists: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(lists.reduce((count, ids) => count + ids.length, 0));
  let end = 0;
  for (const ids of lists) {
    all.set(ids, end);
    end += ids.length;
  }
  all.sort();
  let uniqueCount = 0;
  for (const id of all) {
    if (uniqueCount > 0 && all[uniqueCount - 1] === id) continue;
    all[uniqueCount] = id;
    uniqueCount += 1;
  }
  return all.slice(0, uniqueCount);
}

function missing(name: string): never {
  throw new Error(`a gradient without ${name} was admitted`);
}
