/**
 * A device that has too little memory refuses the job. Smaller micro-batches would change its bits, so nobody makes
 * them but the config.
 */

import { QianmoError } from '../../../shared/base/errors.js';

/**
 * @throws QianmoError `environment`, which is of this machine, when its device has too little memory. Other errors of
 *   `compute` pass unchanged.
 */
export function refusingOutOfMemory<Result>(compute: () => Result): Result {
  try {
    return compute();
  } catch (error) {
    if (!isOutOfMemory(error)) throw error;
    throw new QianmoError({
      kind: 'environment',
      what: "the device's memory does not hold a micro-batch",
      expected: 'memory for training.microBatchRowsMax padded rows at a time',
      found: firstLineOf(error),
      cure: 'lower training.microBatchRowsMax, which changes the digest of the run, or use a device with more memory',
      cause: error,
      isOfThisMachine: true,
    });
  }
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

function firstLineOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const telling = text.split('\n').find((line) => /OOM|memory|alloc/i.test(line));
  return (telling ?? text.split('\n')[0] ?? text).trim().slice(0, 200);
}
