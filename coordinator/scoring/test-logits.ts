/**
 * The logits of every arm for the test rows, as one file beside the report. With it, runs can be
 * compared row by row without their store, checkpoints or workers. The file has the safetensors layout:
 *
 *   task/keys              UTF-8 JSON: the tasks' keys, in order
 *   task/supportRowCounts  `[taskCount]`
 *   task/starts            `[taskCount + 1]`: first row of each task, and the row count
 *   row/clicks, row/impressions, row/logRows  `[rowCount]`: counts, and number of the row in the logs
 *   logits/ARM             `[rowCount]`
 *
 * It takes 16 bytes a row plus 4 for each arm and is held in memory whole. The report names its digest.
 */

import { int32At } from '../../shared/base/arrays.js';
import { z } from 'zod';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import {
  decodeTensors,
  encodeTensors,
  type CodedTensor,
} from '../../shared/tensors/tensor-codec.js';
import type { TaskCounts } from './held-out-rows.js';

/** The file lies beside `evaluation.json`. */
export const TEST_LOGITS_KEY = 'test-logits.safetensors';

export interface TestLogits {
  /** The values of each task's columns, joined with U+001F. */
  readonly taskKeys: readonly string[];
  readonly supportRowCounts: readonly number[];
  readonly rows: TaskCounts & {
    /** Number of each row in the logs, `[rowCount]`. */
    readonly logRows: Float64Array;
  };
  /** The logits of each arm, `[rowCount]`, in the order in which arms are shown. */
  readonly logits: ReadonlyMap<string, Float32Array>;
}

const ARM_PREFIX = 'logits/';

export function encodeTestLogits(found: TestLogits): Uint8Array {
  const { taskKeys, supportRowCounts, rows, logits } = found;
  const column = (values: CodedTensor['values']): CodedTensor => ({
    shape: [values.length],
    values,
  });
  return encodeTensors(
    new Map<string, CodedTensor>([
      ['task/keys', column(new TextEncoder().encode(JSON.stringify(taskKeys)))],
      ['task/supportRowCounts', column(Int32Array.from(supportRowCounts))],
      ['task/starts', column(rows.starts)],
      ['row/clicks', column(rows.clicks)],
      ['row/impressions', column(rows.impressions)],
      ['row/logRows', column(rows.logRows)],
      ...[...logits].map(([arm, values]): [string, CodedTensor] => [
        `${ARM_PREFIX}${arm}`,
        column(values),
      ]),
    ]),
  );
}

/** @throws QianmoError of kind `data` when the bytes are not what `encodeTestLogits` wrote. */
export function decodeTestLogits(bytes: Uint8Array, where: string): TestLogits {
  const tensors = decodeTensors(bytes, where);
  const unfit = (found: string): QianmoError =>
    errorOf('data', 'these are not the test logits of an evaluation', {
      where,
      found,
      cure: 'evaluate the run again: qianmo evaluate run.yaml',
    });
  const column = <Values extends CodedTensor['values']>(
    name: string,
    type: abstract new (...parts: never[]) => Values,
    length: number | null,
  ): Values => {
    const values = tensors.get(name)?.values;
    if (!(values instanceof type)) throw unfit(`no tensor ${name} of type ${type.name}`);
    if (length !== null && values.length !== length)
      throw unfit(`${values.length} values of ${name} instead of ${length}`);
    return values;
  };
  let taskKeys: string[];
  try {
    const text = new TextDecoder().decode(column('task/keys', Uint8Array, null));
    taskKeys = z.array(z.string()).parse(JSON.parse(text));
  } catch {
    throw unfit('task keys that are not a list of texts');
  }
  const starts = column('task/starts', Int32Array, taskKeys.length + 1);
  const rowCount = starts.at(-1) ?? 0;
  if (
    starts[0] !== 0 ||
    starts.some((start, task) => task > 0 && start < int32At(starts, task - 1))
  )
    throw unfit('tasks whose rows do not follow one another');
  const arms = [...tensors.keys()].filter((name) => name.startsWith(ARM_PREFIX));
  return {
    taskKeys,
    supportRowCounts: [...column('task/supportRowCounts', Int32Array, taskKeys.length)],
    rows: {
      starts,
      clicks: column('row/clicks', Float32Array, rowCount),
      impressions: column('row/impressions', Float32Array, rowCount),
      logRows: column('row/logRows', Float64Array, rowCount),
    },
    logits: new Map(
      arms.map((name) => [name.slice(ARM_PREFIX.length), column(name, Float32Array, rowCount)]),
    ),
  };
}
