// Fields that are remembered mean what the schema says, whatever came before. Seen to fail: a context or a seed that is not
// checked, a seed that is left out.

import { expect, test } from 'vitest';
import { z } from 'zod';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { commonFields, fieldsReader } from '../../../worker/serving/server/ranking-body.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { expectSame } from '../../fixtures/expect-same.js';
import { mutatedText } from '../../fixtures/serving/mutated-text.js';

const CASES = 2_500;
const schema = z.strictObject(commonFields);

function freshReader() {
  const read = fieldsReader(schema);
  return (text: string): z.output<typeof schema> | null => {
    try {
      const { shared, context, seed } = read(Buffer.from(text));
      return { ...shared, context, seed };
    } catch (error) {
      if (error instanceof RefusedRequest) return null;
      throw error;
    }
  };
}

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
  const read = freshReader();
  let rightCount = 0;
  for (let seed = 0; seed < CASES; seed += 1) {
    const text = JSON.stringify(drawn(randomStream(seed, 'fields')));
    const expected = schema.safeParse(JSON.parse(text));
    expectSame(read(text), expected.data ?? null, text);
    if (expected.success) rightCount += 1;
  }
  expect(rightCount).toBeGreaterThan(CASES / 4);
  expect(rightCount).toBeLessThan(CASES);
});

test('texts that differ in a few characters from what is remembered are what a parser makes of them', () => {
  const read = freshReader();
  const examples = [
    { context: { city: 'a,b:{}' }, seed: 7, squash: 0.5, fields: ['order'] },
    { seed: 1, context: { city: ['a', 1], seed: 'b' }, reserve: 1 },
    { squash: 1, seed: 3 },
    { context: { city: 'a' }, squash: 0.5 },
  ].map((each) => JSON.stringify(each));
  let rightCount = 0;
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'texts');
    const text = mutatedText(random, examples[random.below(examples.length)]!);
    const expected = schema.safeParse(parsedOf(text));
    expectSame(read(text), expected.data ?? null, text);
    if (expected.success) rightCount += 1;
  }
  expect(rightCount).toBeGreaterThan(CASES / 50);
});

function parsedOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

test('fields of any depth and length are read or refused', () => {
  const read = freshReader();
  for (const depth of [1, 900, 20_000])
    expect(read(`{"unknown":${'['.repeat(depth)}${']'.repeat(depth)}}`)).toBeNull();
  const context = { city: Array<string>(900).fill('Oslo') };
  for (let turn = 0; turn < 2; turn += 1)
    expect(read(JSON.stringify({ context }))).toMatchObject({ context, seed: null });
});
