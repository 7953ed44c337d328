/** A failure as it travels between processes and threads. It has no stack and no cause, which cannot travel. */

import { z } from 'zod';
import { FAILURE_KINDS, QianmoError, type FailureReport } from './errors.js';
import { failureOfSystemError, isOfTheMachine } from './system-errors.js';

export const FailureRecordSchema = z.strictObject({
  kind: z.enum(FAILURE_KINDS),
  what: z.string(),
  where: z.string().optional(),
  expected: z.string().optional(),
  found: z.string().optional(),
  cure: z.string().optional(),
  isOfThisMachine: z.literal(true).optional(),
});
export type FailureRecord = z.infer<typeof FailureRecordSchema>;

/**
 * A failure as a record.
 *
 * @param bug what to say of an error that is not a QianmoError.
 */
export function failureRecordOf(
  thrown: unknown,
  bug: Pick<FailureRecord, 'what' | 'cure'>,
): FailureRecord {
  const error = isOfTheMachine(thrown) ? (failureOfSystemError(thrown) ?? thrown) : thrown;
  if (!(error instanceof QianmoError))
    return {
      ...{ kind: 'failed', ...bug },
      found: error instanceof Error ? error.message : String(error),
    };
  const { cause, ...record } = error.report;
  if (cause instanceof Error && record.found === undefined)
    return { ...record, found: cause.message };
  return record;
}

export function errorFromRecord(record: FailureRecord): QianmoError {
  // `undefined` parts are dropped, because optional parts must be absent.
  const parts = Object.fromEntries(Object.entries(record).filter(([, part]) => part !== undefined));
  const { kind, what } = record;
  return new QianmoError({ ...(parts as Partial<FailureReport>), kind, what });
}
