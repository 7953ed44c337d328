// Lookups in memory that was given back are refused: a detached array has no elements.

import { beforeAll, expect, test } from 'vitest';
import { scoringAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';

beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
});

test('a lookup in detached arrays', () => {
  const addon = loadScoringAddon(scoringAddon.path());
  const [bytes, spans] = [Buffer.from('a'), Uint32Array.of(0, 1)];
  const slots = new Uint32Array(2);
  const blocks = new Int32Array(2);
  structuredClone([slots, blocks], { transfer: [slots.buffer, blocks.buffer] });
  const none = new Uint8Array(0);
  const offsets = Uint32Array.of(0);
  const found = new Int32Array(1);
  expect(() => addon.lookUpValues(bytes, spans, none, offsets, slots, 1, found, 0, 1)).toThrow(
    'a power of two of slots',
  );
  const hashes = new Uint32Array(2);
  expect(() =>
    addon.lookUpKeys(bytes, spans, new Uint32Array(0), blocks, none, offsets, 0, found, hashes),
  ).toThrow('a power of two of slots');
  expect(() => addon.lookUpHashes(hashes, new Uint32Array(0), blocks, found)).toThrow(
    'a power of two of slots',
  );
});
