/** The result of one check of the preflight: ok, a problem with its cure, or a warning. */

import { QianmoError } from '../../shared/base/errors.js';

export interface CheckResult {
  readonly requirement: string;
  /** A warning only makes the run slower; a problem prevents it. */
  readonly state: 'ok' | 'warning' | 'problem';
  readonly detail: string;
  readonly cure: string | null;
}

export type Finding = Omit<CheckResult, 'requirement'>;

export const ok = (detail: string): Finding => ({ state: 'ok', detail, cure: null });

/** A failure that the check meets is its result: a check never throws a QianmoError. */
export async function checked<Found extends Finding>(
  requirement: string,
  find: () => Promise<Found>,
): Promise<(Found | Finding) & { readonly requirement: string }> {
  try {
    return { requirement, ...(await find()) };
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    const { what, where, found, cure } = error.report;
    const detail = [what, where, found].filter((part) => part !== undefined).join('; ');
    return { requirement, state: 'problem', detail, cure: cure ?? null };
  }
}
