// A list that is checked in one loop is taken or refused as the schema of its numbers would. Seen to fail: a loop that takes
// empty lists, infinite weights, fractions of an index.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { isIndex, isWeight, quickNumberList } from '../../../shared/queue/protocol.js';

const weights = z.array(z.number().nonnegative());
const indices = z.array(z.int().nonnegative()).min(1);
const anything = fc.oneof(
  { weight: 8, arbitrary: fc.nat(1_000) },
  fc.double(),
  fc.constantFrom(NaN, Infinity, -Infinity, -0, -1, 0.5, 2 ** 53, '1', null, undefined, [1]),
);

it.each([
  ['weights', weights, isWeight],
  ['indices', indices, isIndex],
] as const)('%s are taken and refused as one by one', (_, schema, isGood) => {
  const quick = quickNumberList(schema, isGood);
  fc.assert(
    fc.property(fc.oneof(fc.array(anything, { maxLength: 6 }), fc.anything()), (list) => {
      const [expected, found] = [schema.safeParse(list), quick.safeParse(list)];
      expect(found.data).toEqual(expected.data);
      expect(found.error?.issues.map(({ path, message }) => ({ path, message }))).toEqual(
        expected.error?.issues.map(({ path, message }) => ({ path, message })),
      );
    }),
    { numRuns: 500 },
  );
});
