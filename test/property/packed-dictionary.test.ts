/** A packed dictionary gives every text the id that a Map would. */

import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  idOfText,
  packedDictionaryOf,
  type PackedDictionary,
} from '../../shared/features/packed-dictionary.js';
import { valueLookup } from '../../worker/serving/kernel-scorer.js';
import { compiledAddon } from '../fixtures/serving/compiled-addon.js';

/** Texts of few letters, so that some begin alike and some are absent by one letter. */
const text = fc.oneof(
  fc.string({ unit: fc.constantFrom('a', 'b', 'é', '千', '\u{1f600}'), maxLength: 6 }),
  fc.string({ unit: 'binary', maxLength: 4 }),
);

/** A value of a dictionary is not empty: an empty text of the logs is no value. */
const value = text.filter((each) => each !== '');

test('a value has its id, and any other text has 0', () => {
  fc.assert(
    fc.property(fc.uniqueArray(value, { maxLength: 60 }), fc.array(text), (values, others) => {
      const dictionary = packedDictionaryOf([null, ...values]);
      const ids = new Map(values.map((each, place) => [each, place + 1]));
      for (const each of [...values, ...others])
        expect(idOfText(dictionary, each)).toBe(ids.get(each) ?? 0);
    }),
  );
});

test('an index has what its description says, for other programs to read', () => {
  fc.assert(
    fc.property(value, (only) => {
      let hash = 0x811c9dc5n;
      for (const byte of Buffer.from(only))
        hash = BigInt.asUintN(32, (hash ^ BigInt(byte)) * 0x01000193n);
      const mixed = BigInt.asUintN(32, hash * 0x9e3779b1n);
      const expected = new Uint32Array(16);
      expected[Number(mixed >> 28n)] = Number(BigInt.asUintN(32, mixed << 3n)) + 1;
      expect(packedDictionaryOf([null, only]).slots).toEqual(expected);
    }),
  );
});

test('values whose hashes are alike are told apart', () => {
  // Sixteen slots for seven values: some share a first slot.
  const values = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  const dictionary = packedDictionaryOf([null, ...values]);
  expect(dictionary.slots).toHaveLength(16);
  expect(values.map((value) => idOfText(dictionary, value))).toEqual([1, 2, 3, 4, 5, 6, 7]);
  const full: PackedDictionary = { ...dictionary, slots: dictionary.slots.map((id) => id || 1) };
  expect(idOfText(full, 'h')).toBe(0);
});

/** Pairs with one hash of all 32 bits. */
const ALIKE = [
  ['costarring', 'liquid'],
  ['declinate', 'macallums'],
  ['altarage', 'zinke'],
] as const;

test('values with one hash are told apart by their texts, by the addon too', async () => {
  const addon = await compiledAddon();
  const asked = ALIKE.flat();
  const text = asked.join('');
  const ends = asked.map((_, place) => asked.slice(0, place + 1).join('').length);
  const spans = Uint32Array.from(ends.flatMap((end, place) => [end - asked[place]!.length, end]));
  for (const known of [asked, ALIKE.map(([first]) => first), ALIKE.map(([, second]) => second)]) {
    const dictionary = packedDictionaryOf([null, ...known]);
    const expected = asked.map((each) => known.indexOf(each) + 1);
    expect(asked.map((each) => idOfText(dictionary, each))).toEqual(expected);
    const target = new Int32Array(asked.length).fill(-1);
    const texts = { form: 'texts', bytes: Buffer.from(text), spans } as const;
    const lookUp = valueLookup(addon, { dictionary, buckets: 0 });
    lookUp(texts, asked.length, { target, first: 0, stride: 1 });
    expect(Array.from(target)).toEqual(expected);
  }
});

test('half a character is read as UTF-8 writes it', () => {
  const dictionary = packedDictionaryOf([null, '\ufffdx']);
  expect(idOfText(dictionary, '\ud800x')).toBe(1);
  expect(() => packedDictionaryOf([null, '\ud83d', '\ude00'])).toThrow(/no Unicode/);
});
