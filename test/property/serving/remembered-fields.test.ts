// Contents that are remembered mean what the schema says, whatever came before. Seen to fail: a context that is
// not checked, a seed that is left out.

import { expect, test } from 'vitest';
import { z } from 'zod';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { commonFields } from '../../../worker/serving/server/ranking-body.js';
import { rememberingParser } from '../../../worker/serving/server/forms/remembered-fields.js';

const CASES = 5_000;
const schema = z.strictObject(commonFields);

const VALUES: Readonly<Record<string, readonly unknown[]>> = {
  context: [
    {},
    { city: 'a' },
    { city: ['a', 1, null] },
    { city: [[1]] },
    { city: {} },
    null,
    [],
    'a',
  ],
  seed: [0, 7, 0xffffffff, -1, 0.5, 2 ** 32, '7', null],
  squash: [0, 0.5, 10, 11, -1, null],
  reserve: [0, 1, -1, '1'],
  fields: [['order'], ['order', 'values'], [], ['colour'], 'order'],
  bundle: ['b'.repeat(64), 'b', null],
  unknown: [1],
};

function drawn(random: RandomStream): object {
  const names = Object.keys(VALUES).filter(() => random.below(4) === 0);
  return Object.fromEntries(
    names.map((name) => {
      const values = VALUES[name]!;
      // The first ones are right.
      return [name, values[random.below(random.below(3) === 0 ? values.length : 2)]];
    }),
  );
}

test('fields are what the schema makes of them', () => {
  const parser = rememberingParser(schema);
  let rightCount = 0;
  for (let seed = 0; seed < CASES; seed += 1) {
    const text = JSON.stringify(drawn(randomStream(seed, 'fields')));
    const content = JSON.parse(text) as object;
    const expected = schema.safeParse(content);
    expect(parser(content), text).toEqual(expected.success ? expected.data : null);
    if (expected.success) rightCount += 1;
  }
  expect(rightCount).toBeGreaterThan(CASES / 4);
  expect(rightCount).toBeLessThan(CASES);
});
