/** The result of one check of the preflight: ok, a problem with its cure, or a warning. */

import { QianmoError } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';

export interface CheckResult {
  readonly requirement: string;
  /** A warning only makes the run slower; a problem prevents it. */
  readonly state: 'ok' | 'warning' | 'problem';
  readonly detail: string;
  readonly cure: string | null;
}

export type Finding = Omit<CheckResult, 'requirement'>;

export const ok = (detail: string): Finding => ({ state: 'ok', detail, cure: null });

/** A failure that the check meets is its result. Only a bug is thrown. */
export async function checked<Found extends Finding>(
  requirement: string,
  find: () => Promise<Found>,
): Promise<(Found | Finding) & { readonly requirement: string }> {
  try {
    return { requirement, ...(await find()) };
  } catch (error) {
    const failure = error instanceof QianmoError ? error : failureOfSystemError(error);
    if (failure === null) throw error;
    const { what, where, found, cure } = failure.report;
    const detail = [what, where, found].filter((part) => part !== undefined).join('; ');
    return { requirement, state: 'problem', detail, cure: cure ?? null };
  }
}
