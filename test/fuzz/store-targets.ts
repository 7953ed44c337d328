/** The records that are read back from object stores: adapted tasks and checkpoints. */

import {
  CHECKPOINT_FORMAT_VERSION,
  LATEST_KEY,
} from '../../coordinator/checkpoints/checkpoint-manifest.js';
import { decodeAdaptedTasks, encodeAdaptedTasks } from '../../shared/bundle/adapted-tasks.js';
import { MemoryObjectStore } from '../../shared/storage/memory-object-store.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import { checkpointsIn } from '../fixtures/stores/checkpoint-stores.js';
import { tinySpec, tinyState } from '../fixtures/training-states.js';
import type { FuzzTarget } from './fuzz-target.js';
import { mutatedBytes, mutatedJson } from './mutations.js';

const layout: Parameters<typeof encodeAdaptedTasks>[0] = {
  blocks: new Map([['bias', { shape: [1] }]]),
  encodedFeatures: ['site'],
};
const taskIndices = [3, 8];
const adapted = encodeAdaptedTasks(
  layout,
  taskIndices.map((taskIndex) => ({
    ...{ taskIndex, loss: 'binary', isAlone: false },
    blocks: new Map([['bias', { shape: [1], values: Float32Array.of(1) }]]),
    support: {
      clicks: 1,
      impressions: 2,
      byValue: [new Map([[4, { clicks: 1, impressions: 2 }]])],
    },
  })),
);

export const adaptedTarget: FuzzTarget = {
  name: 'adapted-tasks',
  share: 1,
  inputOf: (stream) => mutatedBytes(stream, adapted),
  parse: (input) => decodeAdaptedTasks(input, layout, taskIndices, 'the input'),
};

const written = new MemoryObjectStore();
await checkpointsIn(written).write(tinyState(tinySpec(), 4));
const manifestKey = (await written.list('manifests/'))[0] ?? '';
const manifestText = Buffer.from((await written.get(manifestKey))?.bytes ?? []).toString('utf8');
const manifest: unknown = JSON.parse(manifestText);

/** The manifest is changed and named by its new content, as by a writer that has gone wrong. */
export const checkpointTarget: FuzzTarget = {
  name: 'checkpoint',
  share: 0.2,
  inputOf: (stream) => Buffer.from(mutatedJson(stream, manifest)),
  parse: async (input) => {
    const store = new MemoryObjectStore();
    for (const key of await written.list('blobs/')) {
      const blob = await written.get(key);
      if (blob !== null) await store.put(key, blob.bytes, { kind: 'always' });
    }
    const sha256 = sha256Of(input);
    const key = `manifests/000000004-${sha256.slice(0, 8)}.json`;
    const latest = {
      formatVersion: CHECKPOINT_FORMAT_VERSION,
      outerStep: 4,
      manifest: key,
      sha256,
    };
    await store.put(key, input, { kind: 'always' });
    await store.put(LATEST_KEY, Buffer.from(JSON.stringify(latest)), { kind: 'always' });
    await checkpointsIn(store).latest();
  },
};
