// The addon hashes texts to the buckets of `hashBucketOf`, by every kernel that runs here, texts of several lengths together.
// Seen to fail: a text of 56 bytes padded within one block, a text that is done hashed on with longer ones beside it.

import { test } from 'vitest';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { hashBucketOf } from '../../../shared/features/packed-dictionary.js';
import { columnOfTexts, NULL_START } from '../../../worker/serving/candidate-columns.js';
import { expectSame } from '../../fixtures/expect-same.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const CASES = 300;
const CHARACTERS = ['a', '7', ' ', '\u0000', 'é', '漢', '😀', '\ud800', '"', '\\'];
const BUCKETS = [2, 3, 101, 4_097, 1_000_003, 2 ** 31 - 1];
/** More than are hashed together. */
const TEXTS_MAX = 700;

const addon = await compiledAddon();

/** Most are of one block, many at its end. */
function textOf(random: RandomStream): string {
  const length = [random.below(12), 50 + random.below(20), random.below(300)][random.below(3)] ?? 0;
  const isPlain = random.below(2) === 0;
  const characters = Array.from({ length }, () =>
    isPlain ? 'x' : CHARACTERS[random.below(CHARACTERS.length)],
  );
  return characters.join('');
}

test('buckets of texts are those of TypeScript', () => {
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'buckets');
    const count = random.below(seed % 20 === 0 ? TEXTS_MAX : 40);
    const texts = Array.from({ length: count }, () => textOf(random));
    const buckets = BUCKETS[random.below(BUCKETS.length)]!;
    const { bytes, spans } = columnOfTexts(texts);
    const isNull = texts.map(() => random.below(8) === 0);
    for (const [place, isEmpty] of isNull.entries()) if (isEmpty) spans[2 * place] = NULL_START;
    const keepsKnown = random.below(2) === 0;
    const [first, stride] = [random.below(3), 1 + random.below(3)];
    const before = Int32Array.from({ length: first + stride * count + 1 }, () => random.below(2));
    const expected = before.slice();
    for (const [place, text] of texts.entries()) {
      const at = first + stride * place;
      if (keepsKnown && before[at] !== 0) continue;
      expected[at] = isNull[place] === true || text === '' ? 0 : hashBucketOf(text, buckets);
    }
    for (const [kernel, name] of addon.kernels().entries()) {
      const target = before.slice();
      const places = [target, first, stride] as const;
      addon.lookUpBuckets(bytes, spans, buckets, count, keepsKnown, ...places, kernel);
      expectSame(target, expected, `seed ${seed}, ${name}`);
    }
  }
});
