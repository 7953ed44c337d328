// Numbers of answers in JSON are the shortest that are read as the same. Seen to fail: with digits that are rounded down.

import { expect, test } from 'vitest';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const CASES = 100;
const COUNT = 500;
const NUMBER_BYTE_COUNT_MAX = 33;

const addon = await compiledAddon();

function anyNumber(random: RandomStream): number {
  const sign = random.below(8) === 0 ? -1 : 1;
  switch (random.below(7)) {
    case 0:
      return sign * random.normal() * 10 ** (random.below(40) - 20);
    case 1:
      return sign * random.uniform() * 10 ** (random.below(13) - 3);
    case 2:
      return (sign * random.uint32()) / 10 ** random.below(12);
    case 3:
      // Half way between two decimals, often.
      return (sign * (2 ** 37 + random.below(2 ** 30))) / 2 ** (8 + random.below(20));
    case 4:
      return sign * 2 ** (random.below(80) - 40) * (1 + random.below(3) * Number.EPSILON);
    case 5:
      return Math.fround(random.uniform());
    default:
      return sign * random.below(1_000_000);
  }
}

function written(values: Float64Array): string[] {
  const out = new Uint8Array(NUMBER_BYTE_COUNT_MAX * values.length);
  const end = addon.writeNumbers(values, out, 0);
  return Buffer.from(out.buffer, 0, end).toString().split(',');
}

test('numbers are read as what they were, and none is longer than it need be', () => {
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'written numbers');
    const values = Float64Array.from({ length: COUNT }, () => anyNumber(random));
    for (const [place, text] of written(values).entries()) {
      const value = values[place]!;
      const size = Math.abs(value);
      const shortest = String(value);
      // Elsewhere an exponent may be shorter.
      const isShort =
        size >= 1e-3 && size < 1e9 ? text === shortest : text.length <= shortest.length + 3;
      // An expectation for each number would take most of the time.
      if (!isShort || Number(text) !== value) expect.fail(`seed ${seed}: ${text}, not ${shortest}`);
    }
  }
});
