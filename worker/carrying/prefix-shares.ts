/** The queues that a worker serves, as the command line names them. */

import { z } from 'zod';

const WEIGHT_MAX = 1_000_000;

/** Prefixes of queues with their weights, as `{a}=3,{b}=1`. A prefix without a weight has 1. */
export const PrefixSharesSchema = z.string().transform((text, context) => {
  const shares = text.split(',').map((share) => {
    const [prefix = '', weight = '1', ...more] = share.trim().split('=');
    return { prefix, weight: more.length > 0 || weight === '' ? Number.NaN : Number(weight) };
  });
  const isDistinct = new Set(shares.map(({ prefix }) => prefix)).size === shares.length;
  const isValid = shares.every(
    ({ prefix, weight }) => prefix !== '' && weight > 0 && weight <= WEIGHT_MAX,
  );
  if (isDistinct && isValid) return shares;
  context.addIssue({
    code: 'custom',
    message: `expected a prefix, or several different ones with weights above 0 and at most ${WEIGHT_MAX}, as {a}=3,{b}=1`,
  });
  return z.NEVER;
});
