/** What Ctrl-C means to whoever gave the command, whichever part of it was under way. */

import { QianmoError } from '../../../shared/base/errors.js';

export interface WholeInterrupted {
  readonly what: string;
  readonly where: string;
  readonly cure: string;
}

/**
 * Waits for the work; an interruption of any of its parts becomes one of the whole.
 *
 * @param whole asked when it has happened.
 */
export async function interruptedAs<Value>(
  work: Promise<Value>,
  whole: () => WholeInterrupted,
): Promise<Value> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof QianmoError) || error.kind !== 'interrupted') throw error;
    throw new QianmoError({ kind: 'interrupted', ...whole() });
  }
}
