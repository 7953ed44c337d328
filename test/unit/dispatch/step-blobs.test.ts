/** The outputs of a step: how many are fetched at once, and which cannot be. */

import { describe, expect, it, test } from 'vitest';
import { BlobLeases, StepBlobs } from '../../../coordinator/dispatch/step-blobs.js';
import { type BlobRef, blobRefOf } from '../../../shared/storage/blob-store.js';
import { MemoryBlobStore } from '../../../infra/simulation/memory-queue.js';

const MIB = 1024 * 1024;

function stepBlobs(): StepBlobs {
  const parts = { blobs: new MemoryBlobStore(), leases: new BlobLeases() };
  return new StepBlobs(parts, (action) => action());
}

test.each([
  ['many that are small', [64 * 1024], 128],
  ['as many as fit into the memory', [MIB, 4 * MIB], 16],
  ['a few, however large', [MIB, 100 * MIB, 1], 8],
])('fetches %s', async (_, byteCounts, expected) => {
  const step = stepBlobs();
  expect(step.outputsAtOnce).toBe(8);
  for (const byteCount of byteCounts)
    expect(await step.output({ sha256: '0'.repeat(64), byteCount })).toBeNull();
  expect(step.outputsAtOnce).toBe(expected);
});

describe('an input that jobs share', () => {
  class SlowBlobStore extends MemoryBlobStore {
    readonly begun: { end: (ref: BlobRef) => void; fail: (error: Error) => void }[] = [];
    override put(): Promise<BlobRef> {
      return new Promise((end, fail) => void this.begun.push({ end, fail }));
    }
  }
  const shared = { dense: Uint8Array.of(1), rowPack: null, frozen: null };

  // Seen to fail: all jobs but the first left before their dense variables were in the object store.
  it('is stored once, and before any of them counts as stored', async () => {
    const blobs = new SlowBlobStore();
    const step = new StepBlobs({ blobs, leases: new BlobLeases() }, (action) => action());
    const stored: string[] = [];
    const first = step.put(shared).then(() => stored.push('first'));
    const second = step.put(shared).then(() => stored.push('second'));
    await new Promise((resolve) => setImmediate(resolve));
    expect(stored).toEqual([]);
    blobs.begun[0]?.end(blobRefOf(shared.dense));
    await Promise.all([first, second]);
    expect(blobs.begun).toHaveLength(1);
  });
});

describe('a frozen input', () => {
  const order = (value: number) => ({
    ...{ dense: Uint8Array.of(0), rowPack: null, frozen: Uint8Array.of(1, value) },
  });

  // Three trials of a sweep at the same time hold three.
  it('stays as long as a job uses it, however many others are held', async () => {
    const blobs = new MemoryBlobStore();
    const step = new StepBlobs({ blobs, leases: new BlobLeases() }, (action) => action());
    const orders = [1, 2, 3].map(order);
    for (const each of orders) await step.put(each);
    await step.settled();
    const there = (): Promise<boolean[]> =>
      Promise.all(orders.map(({ frozen }) => blobs.has(blobRefOf(frozen))));
    expect(await there()).toEqual([true, true, true]);
    for (const each of orders) step.delete(step.released(each));
    await step.settled();
    // The latest two are held for the jobs that follow.
    expect(await there()).toEqual([false, true, true]);
  });
});
