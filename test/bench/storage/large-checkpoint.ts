/**
 * Writes a checkpoint with a table of more than 2 GiB to a folder and reads it back bit for bit, then does
 * the same with one blob of more than 2 GiB. Needs 6 GiB of memory and 5 GiB in the temporary folder.
 * Prints what it measured. `npm run bench:large-checkpoint`.
 */

import { rm, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCheckpoints } from '../../../coordinator/checkpoints/checkpoint-writer.js';
import type { TrainingState } from '../../../coordinator/checkpoints/training-state.js';
import { systemClock } from '../../../shared/base/clock.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { ObjectBlobStore } from '../../../shared/storage/object-blob-store.js';
import { tinySpec } from '../../fixtures/training-states.js';
import { benchOptions } from '../options/bench-options.js';

benchOptions(import.meta.url, {});

const BYTE_COUNT = 2 ** 31 + 2 ** 27;

const width = tinySpec([1]).tableRowWidth;
const rowCount = Math.ceil(BYTE_COUNT / (width * Float32Array.BYTES_PER_ELEMENT));
const spec = tinySpec([rowCount]);

function largeState(): TrainingState {
  const values = new Float32Array(rowCount * width);
  for (let index = 0; index < values.length; index += 1) values[index] = (index % 8191) / 7;
  return {
    outerStep: 1,
    metaParameters: {
      dense: new Map(
        spec.variables.map(({ name, shape }) => {
          const count = shape.reduce((product, extent) => product * extent, 1);
          return [name, { shape, values: new Float32Array(count) }];
        }),
      ),
      tables: new Map(spec.tables.map(({ name }) => [name, { rowCount, width, values }])),
    },
    optimizer: { dense: new Map(), tables: new Map(), scalars: {} },
    computedOn: [],
  };
}

async function timed<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
  const startMs = systemClock.monotonicMs();
  const result = await work();
  const seconds = ((systemClock.monotonicMs() - startMs) / 1000).toFixed(1);
  const gibibytes = (process.memoryUsage.rss() / 2 ** 30).toFixed(1);
  console.log(`${what}: ${seconds} s, ${gibibytes} GiB resident`);
  return result;
}

async function checkpointRoundTrip(folder: string): Promise<void> {
  const open = (): ReturnType<typeof openCheckpoints> =>
    openCheckpoints({
      ...{ store: new FileObjectStore({ folder }), runName: 'large', configHash: 'large' },
      ...{ deciding: {}, storeDigest: 'large', spec, kept: 1 },
      ...{ clock: systemClock, sink: (event) => console.log(JSON.stringify(event)) },
    });
  const state = largeState();
  const { digest } = await timed('write a checkpoint', () => open().write(state));
  // The reader compares the digest of the meta-parameters.
  const found = await timed('read it back', () => open().latest());
  if (found === null) throw new Error('the checkpoint was not found');
  console.log(`${rowCount} rows of ${width} floats, digest ${digest}`);
}

async function blobRoundTrip(folder: string): Promise<void> {
  const blobs = new ObjectBlobStore(new FileObjectStore({ folder }));
  const bytes = new Uint8Array(BYTE_COUNT).fill(5);
  bytes[BYTE_COUNT - 1] = 9;
  const ref = await timed('put a blob and verify it', () => blobs.putVerified(bytes));
  const found = await timed('get it', () => blobs.get(ref));
  if (found[BYTE_COUNT - 1] !== 9) throw new Error('the blob came back with other bytes');
}

const folder = await mkdtemp(join(tmpdir(), 'qianmo-large-'));
try {
  await checkpointRoundTrip(join(folder, 'checkpoints'));
  await rm(join(folder, 'checkpoints'), { recursive: true });
  await blobRoundTrip(join(folder, 'blobs'));
} finally {
  await rm(folder, { recursive: true, force: true });
}
