/** What Ctrl-C means to whoever gave the command, whichever part of it was under way. */

import { QianmoError } from '../../shared/errors.js';

/** Waits for the work; an interruption of any of its parts becomes one of the whole. */
export async function interruptedAs<Value>(
  work: Promise<Value>,
  whole: { readonly what: string; readonly where: string; readonly cure: string },
): Promise<Value> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof QianmoError) || error.kind !== 'interrupted') throw error;
    throw new QianmoError({ kind: 'interrupted', ...whole });
  }
}
