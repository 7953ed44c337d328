/** A manifest that is gone right after it was written. Seen to fail: without a look at the claim. */

import { expect, it } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { checkpointsIn } from '../../fixtures/stores/checkpoint-stores.js';
import { tinySpec, tinyState } from '../../fixtures/training-states.js';

it.each([
  ['the coordinator that took over', true, { kind: 'failed', message: 'taken over' }],
  ['something else', false, { kind: 'environment' }],
])('says who is to blame for a manifest that %s has removed', async (_, isLost, failure) => {
  let isWritten = false;
  class Removing extends MemoryObjectStore {
    override async put(...put: Parameters<MemoryObjectStore['put']>): Promise<string | null> {
      const etag = await super.put(...put);
      if (!put[0].startsWith('manifests/')) return etag;
      isWritten = true;
      await this.delete(put[0]);
      return etag;
    }
  }
  const demand = (): Promise<void> =>
    isLost && isWritten
      ? Promise.reject(new QianmoError({ kind: 'failed', what: 'taken over' }))
      : Promise.resolve();
  const writer = checkpointsIn(new Removing(), { claim: { demand } });
  await expect(writer.write(tinyState(tinySpec(), 1))).rejects.toMatchObject(failure);
});
