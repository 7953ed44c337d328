/**
 * Handles a device that has too little memory for a micro-batch: the bound on its rows is halved, the
 * job is computed again from its start, and the process remembers the smaller bound for work of the
 * same kind. Sums are then added in another order. This is the one event that may change the low bits
 * of a result, so it is always reported.
 */

import { LruCache } from '../../../shared/base/lru-cache.js';
import { QianmoError } from '../../../shared/base/errors.js';

export interface MicroBatchTerms {
  /** Work of one name, which means one model, method and store, needs about the same memory. */
  readonly workName: string;
  /** The bound that the job states. */
  readonly rowsMax: number;
  /** Rows of the largest task, which are always computed at once. */
  readonly rowsMin: number;
}

interface MicroBatchMemory {
  /**
   * Calls `compute` with the bound of the terms or the remembered smaller one, and again with half of
   * it while the device's memory is exhausted. `compute` frees its tensors if it throws.
   *
   * @throws QianmoError of kind `environment` if memory is exhausted at `rowsMin`. Other errors of
   *   `compute` pass unchanged.
   */
  run<Result>(terms: MicroBatchTerms, compute: (rowsMax: number) => Result): Result;
}

/** Kinds of work whose smaller bound is remembered. */
const REMEMBERED_COUNT_MAX = 64;

/** A bound that was halved because the device had no memory for the larger one. */
export interface HalvedMicroBatch {
  readonly rowsMax: number;
  readonly smallerRowsMax: number;
  readonly reason: string;
}

/** @param report called with each smaller bound. */
export function createMicroBatchMemory(
  report: (halved: HalvedMicroBatch) => void,
): MicroBatchMemory {
  const rowsMaxByWork = new LruCache<string, number>({ countMax: REMEMBERED_COUNT_MAX });

  return {
    run: (terms, compute) => {
      const { workName, rowsMin } = terms;
      let rowsMax = Math.min(terms.rowsMax, rowsMaxByWork.get(workName) ?? terms.rowsMax);
      for (;;) {
        try {
          return compute(rowsMax);
        } catch (error) {
          if (!isOutOfMemory(error)) throw error;
          if (rowsMax <= rowsMin || rowsMax <= 1) throw exhausted(rowsMax, error);
          const smaller = Math.max(1, rowsMin, Math.floor(rowsMax / 2));
          report({ rowsMax, smallerRowsMax: smaller, reason: firstLineOf(error) });
          rowsMaxByWork.put(workName, smaller);
          rowsMax = smaller;
        }
      }
    },
  };
}

/**
 * Matches the messages of the addon and the allocators for TensorFlow's status 8, RESOURCE_EXHAUSTED,
 * of a device or the host, and V8's refusal of a large buffer.
 */
const OUT_OF_MEMORY =
  /\bInvalid TF_Status: 8\b|\bOOM when allocating\b|\bRESOURCE_EXHAUSTED\b|\bResourceExhausted|\bout of memory\b|\bArray buffer allocation failed\b|\bCUDA_ERROR_OUT_OF_MEMORY\b|\bstd::bad_alloc\b/;

export function isOutOfMemory(error: unknown): boolean {
  if (error instanceof QianmoError || !(error instanceof Error)) return false;
  return OUT_OF_MEMORY.test(error.message);
}

function exhausted(rowsMax: number, cause: unknown): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: "the device's memory does not hold the smallest micro-batch",
    expected: 'memory for one task at a time',
    found: `${firstLineOf(cause)}, with at most ${rowsMax} rows`,
    cure:
      'stop other programs on the device, lower rowSplit.supportRowsMax or the widths of the ' +
      'model, or use a device with more memory',
    cause,
  });
}

function firstLineOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const telling = text.split('\n').find((line) => /OOM|memory|alloc/i.test(line));
  return (telling ?? text.split('\n')[0] ?? text).trim().slice(0, 200);
}
