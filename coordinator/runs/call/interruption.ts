/** Turns the interruption of one part of a call into a report about the whole call. */

import { isInterruption, QianmoError } from '../../../shared/base/errors.js';

interface WholeInterrupted {
  readonly what: string;
  readonly where: string;
  readonly cure: string;
}

/**
 * Waits for the work. If a part of it was interrupted, throws an interruption of the whole.
 *
 * @param whole called after the interruption, when it is known what was completed.
 */
export async function interruptedAs<Value>(
  work: Promise<Value>,
  whole: () => WholeInterrupted,
): Promise<Value> {
  try {
    return await work;
  } catch (error) {
    if (!isInterruption(error)) throw error;
    throw new QianmoError({ kind: error.kind, ...whole() });
  }
}
