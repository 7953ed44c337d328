/**
 * The adaptation of each test task under the settings of the arm `meta-adapted`, from what workers measured, and its file
 * beside the test logits, whose tasks it has in their order. The file has the safetensors layout:
 *
 *   logits                   UTF-8: the SHA-256 of those test logits
 *   variables                UTF-8 JSON: the names of the personal variables
 *   task/supportLosses       F64 `[2, taskCount]`: means over the support rows by impressions, before and after
 *                            adaptation; NaN without support rows
 *   task/distances           F64 `[taskCount, variableCount]`: L2 norms of what adaptation added to each variable
 */

import { z } from 'zod';
import { at, float64At, spanAt } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  decodeTensors,
  encodeTensors,
  type CodedTensor,
} from '../../shared/tensors/tensor-codec.js';
import type { FlatRows } from './held-out-rows.js';
import { sumOf } from './metrics.js';

export const TASK_ADAPTATION_KEY = 'task-adaptation.safetensors';

export interface TaskAdaptation {
  /** Names of the personal variables. */
  readonly variables: readonly string[];
  /** `[taskCount]`; NaN for a task without support rows. */
  readonly supportLossesBefore: Float64Array;
  readonly supportLossesAfter: Float64Array;
  /** `[taskCount, variableCount]` */
  readonly distances: Float64Array;
}

/** Measures of each task by adaptation; NaN for tasks without query rows, of which nobody was asked. */
export interface AdaptationMeasures {
  /** Sums of losses over the support rows, `[taskCount]`. */
  readonly supportLossSums: readonly Float64Array[];
  /** L2 norms of what adaptation added to each personal variable, `[taskCount, variableCount]`. */
  readonly distances: readonly Float64Array[];
}

const NamesSchema = z.array(z.string());

/**
 * @param measures without adaptation, then with it
 * @param support rows of the same tasks
 */
export function taskAdaptationOf(
  { variables }: Pick<ModelSpec, 'variables'>,
  { supportLossSums, distances }: AdaptationMeasures,
  support: Pick<FlatRows, 'starts' | 'impressions'>,
): TaskAdaptation {
  const meansOf = (sums: Float64Array): Float64Array =>
    sums.map((sum, task) => {
      const [start, end] = spanAt(support.starts, task);
      return sum / sumOf(support.impressions.subarray(start, end));
    });
  return {
    variables: variables.flatMap(({ name, block }) => (block === 'personal' ? [name] : [])),
    supportLossesBefore: meansOf(at(supportLossSums, 0)),
    supportLossesAfter: meansOf(at(supportLossSums, 1)),
    distances: at(distances, 1),
  };
}

/** The distance of a task's blocks together: the root of the sum of squares over its variables. */
export function totalDistance(distances: Float64Array): number {
  return Math.sqrt(distances.reduce((sum, _, place) => sum + float64At(distances, place) ** 2, 0));
}

/** @param logitsSha256 of the test logits that lie beside the file */
export function encodeTaskAdaptation(found: TaskAdaptation, logitsSha256: string): Uint8Array {
  const { variables, supportLossesBefore: before, supportLossesAfter: after, distances } = found;
  const text = (content: string): CodedTensor => {
    const values = new TextEncoder().encode(content);
    return { shape: [values.length], values };
  };
  return encodeTensors(
    new Map<string, CodedTensor>([
      ['logits', text(logitsSha256)],
      ['variables', text(JSON.stringify(variables))],
      [
        'task/supportLosses',
        { shape: [2, before.length], values: Float64Array.from([...before, ...after]) },
      ],
      ['task/distances', { shape: [before.length, variables.length], values: distances }],
    ]),
  );
}

/**
 * Null for the adaptation of another evaluation, as where one was stopped between its files.
 *
 * @throws QianmoError of kind `data` when the bytes are not what `encodeTaskAdaptation` wrote.
 */
export function decodeTaskAdaptation(
  bytes: Uint8Array,
  beside: { readonly logitsSha256: string; readonly taskCount: number },
  where: string,
): TaskAdaptation | null {
  const tensors = decodeTensors(bytes, where);
  const textOf = (name: string): string => {
    const values = tensors.get(name)?.values;
    if (!(values instanceof Uint8Array)) throw unfit(where, `no text ${name}`);
    return new TextDecoder().decode(values);
  };
  const numbersOf = (name: string, shape: readonly number[]): Float64Array => {
    const found = tensors.get(name);
    if (found?.values instanceof Float64Array && found.shape.join() === shape.join())
      return found.values;
    throw unfit(where, `no tensor ${name} of the shape ${shape.join(' x ')}`);
  };
  if (textOf('logits') !== beside.logitsSha256) return null;
  const { taskCount } = beside;
  const variables = namesIn(textOf('variables'), where);
  const losses = numbersOf('task/supportLosses', [2, taskCount]);
  return {
    variables,
    supportLossesBefore: losses.subarray(0, taskCount),
    supportLossesAfter: losses.subarray(taskCount),
    distances: numbersOf('task/distances', [taskCount, variables.length]),
  };
}

function namesIn(text: string, where: string): string[] {
  try {
    return NamesSchema.parse(JSON.parse(text));
  } catch {
    throw unfit(where, 'names that are not a list of texts');
  }
}

function unfit(where: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'this is not the adaptation of test tasks',
    where,
    found,
    cure: 'evaluate the run again: qianmo evaluate run.yaml',
  });
}
