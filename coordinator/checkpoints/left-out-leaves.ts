/**
 * The leaves that outer steps were closed without: the one thing about a run that depends on timing. A run that leaves
 * out the same leaves ends with the same bits.
 */

import { z } from 'zod';
import { QianmoError } from '../../shared/base/errors.js';

const index = z.int().nonnegative();

const LeftOutSchema = z.strictObject({
  outerStep: index,
  /** Ascending. */
  leaves: z.array(index).min(1),
});
export type LeftOut = z.infer<typeof LeftOutSchema>;

const RecordSchema = z.strictObject({
  formatVersion: z.literal(1),
  steps: z.array(LeftOutSchema).refine(isAscending, { error: 'outer steps must ascend' }),
});

/** @param steps ascending; steps that nothing was left out of are absent. */
export function encodeLeftOut(steps: readonly LeftOut[]): Uint8Array {
  return Buffer.from(`${JSON.stringify({ formatVersion: 1, steps })}\n`);
}

/** @throws QianmoError `data` if the bytes are no such record. */
export function decodeLeftOut(bytes: Uint8Array, where: string): LeftOut[] {
  try {
    return RecordSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8'))).steps;
  } catch (cause) {
    throw new QianmoError({
      kind: 'data',
      what: 'the record of leaves that were left out cannot be read',
      where,
      found: cause instanceof z.ZodError ? z.prettifyError(cause) : 'text that is not JSON',
      cause,
    });
  }
}

function isAscending(steps: readonly LeftOut[]): boolean {
  return steps.every(({ outerStep }, place) => outerStep > (steps[place - 1]?.outerStep ?? -1));
}
