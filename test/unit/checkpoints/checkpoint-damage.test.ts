/**
 * Damaged checkpoints: each kind of damage is detected, and the checkpoint before it is used
 * instead.
 */

import { beforeEach, describe, expect, it } from 'vitest';
import { CHECKPOINT_FORMAT_VERSION } from '../../../coordinator/checkpoints/checkpoint-manifest.js';
import { type QianmoError, formatFailure } from '../../../shared/base/errors.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import {
  checkpointsIn,
  manifestOf,
  overwrite,
  textOf,
} from '../../fixtures/stores/checkpoint-stores.js';
import { bitsOf, tinySpec, tinyState } from '../../fixtures/training-states.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const spec = tinySpec();
const stateAt = (outerStep: number): ReturnType<typeof tinyState> => tinyState(spec, outerStep);

describe('damage', () => {
  let store: MemoryObjectStore;
  let newest: string;
  beforeEach(async () => {
    store = new MemoryObjectStore();
    const writer = checkpointsIn(store);
    await writer.write(stateAt(1));
    newest = (await writer.write(stateAt(2))).address;
  });
  const keyOf = (address: string): string => address.slice(store.address.length + 1);

  const damages: [string, () => Promise<void>][] = [
    ['manifest missing', () => store.delete(keyOf(newest))],
    [
      'manifest tampered with',
      async () =>
        overwrite(
          store,
          keyOf(newest),
          (await textOf(store, keyOf(newest))).replace('"outerStep": 2', '"outerStep": 9'),
        ),
    ],
    [
      'dense blob missing',
      async () => store.delete(`blobs/${(await manifestOf(store, newest)).dense.sha256}`),
    ],
    [
      'table piece with one bit flipped',
      async () => {
        const { sha256 } = (await manifestOf(store, newest)).tables[0]!.pieces[0]!.blob;
        const { bytes } = (await store.get(`blobs/${sha256}`))!;
        bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
        await store.put(`blobs/${sha256}`, bytes, { kind: 'always' });
      },
    ],
  ];

  it.each(damages)('%s: warns and continues from the one before it', async (_, damage) => {
    await damage();
    const reader = checkpointsIn(store);
    const state = (await reader.latest())!;
    expect(bitsOf(state)).toEqual(bitsOf(stateAt(1)));
    expect(reader.warnings).toHaveLength(2);
    expect(reader.warnings[0]).toContain(newest);
    expect(reader.warnings[1]).toContain('continuing from the checkpoint of outer step 1');
    await reader.write(stateAt(2));
    const second = checkpointsIn(store);
    expect(bitsOf((await second.latest())!)).toEqual(bitsOf(stateAt(2)));
    expect(second.warnings).toEqual([]);
  });

  it.each([
    ['garbage', 'not json'],
    ['of another shape', `{"formatVersion":${CHECKPOINT_FORMAT_VERSION}}`],
  ])('pointer %s: warns and finds the newest by listing', async (_, text) => {
    await overwrite(store, 'latest.json', text);
    const reader = checkpointsIn(store);
    expect(bitsOf((await reader.latest())!)).toEqual(bitsOf(stateAt(2)));
    expect(reader.warnings[0]).toContain('the pointer to a checkpoint cannot be read');
    await reader.write(stateAt(3));
    expect((await checkpointsIn(store).latest())!.outerStep).toBe(3);
  });

  it('nothing whole: fails, names every fault, and does not start from scratch', async () => {
    for (const key of await store.list('blobs/')) await store.delete(key);
    const failure: unknown = await checkpointsIn(store)
      .latest()
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({
      kind: 'data',
      report: { what: 'there are checkpoints, but none is complete' },
    });
    const text = formatFailure(failure as QianmoError);
    expect(text.match(/is not there/g)).toHaveLength(2);
    expect(text).toContain('--fresh');
  });

  it('a checkpoint of a later format is refused, not skipped', async () => {
    await overwrite(store, keyOf(newest), `{"formatVersion":${CHECKPOINT_FORMAT_VERSION + 1}}`);
    await expectFailureOf(checkpointsIn(store).latest(), 'environment', {
      expected: `format ${CHECKPOINT_FORMAT_VERSION}`,
      found: `format ${CHECKPOINT_FORMAT_VERSION + 1}`,
    });
  });
});
