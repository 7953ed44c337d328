/** Checkpoints of runs that were extended while they were trained. */

import { expect, it } from 'vitest';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { checkpointsIn } from '../../fixtures/stores/checkpoint-stores.js';
import { bitsOf, tinySpec, tinyState } from '../../fixtures/training-states.js';

const state = tinyState(tinySpec(), 5);
const extended = { ...state, extendedOuterSteps: 600 };

it('keep the new length, also where nothing else has changed', async () => {
  const store = new MemoryObjectStore();
  const writer = checkpointsIn(store);
  await writer.write(state);
  await writer.write(extended);
  const found = await checkpointsIn(store).latest();
  expect(found?.extendedOuterSteps).toBe(600);
  expect(bitsOf(found!)).toEqual(bitsOf(state));
});

it('are those of a config with the old length and of one with the new length', async () => {
  const store = new MemoryObjectStore();
  await checkpointsIn(store).write(extended);
  expect(bitsOf((await checkpointsIn(store).latest())!)).toEqual(bitsOf(state));
  const optimizer = { kind: 'adam' };
  const deciding = { seed: 1, training: { outerSteps: 600, optimizer } };
  const lengthened = checkpointsIn(store, { configHash: 'hash-2', deciding });
  expect(bitsOf((await lengthened.latest())!)).toEqual(bitsOf(state));
  for (const other of [
    { ...deciding, seed: 2 },
    { ...deciding, training: { outerSteps: 601, optimizer } },
  ])
    await expect(
      checkpointsIn(store, { configHash: 'hash-3', deciding: other }).latest(),
    ).rejects.toMatchObject({ kind: 'usage' });
});
