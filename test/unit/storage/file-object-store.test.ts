/** Failures that only a folder can have: full disks, permissions, dead owners of locks. */

import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeDurably } from '../../../shared/storage/file-bytes.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { openObjectStore } from '../../../shared/storage/open-object-store.js';
import { S3ObjectStore } from '../../../shared/storage/s3-object-store.js';
import { openedForEach } from '../../fixtures/opened.js';
import { checkpointsIn } from '../../fixtures/stores/checkpoint-stores.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { bitsOf, tinySpec, tinyState } from '../../fixtures/training-states.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const folder = openedForEach(temporaryFolder);

function diskError(code: string): Error {
  return Object.assign(new Error(`${code}: no space left on device, write`), { code });
}

async function filesUnder(path: string): Promise<string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
}

describe('a full disk', () => {
  it('reports path and cure and leaves no part of the object', async () => {
    const store = new FileObjectStore({
      folder: folder.path,
      write: async (path, bytes) => {
        await writeDurably(path, bytes.subarray(0, 1));
        throw diskError('ENOSPC');
      },
    });
    for (const kind of ['always', 'absent'] as const)
      await expectFailureOf(store.put('a/k', Buffer.from('object'), { kind }), 'environment', {
        what: 'the disk is full while writing an object',
        where: join(folder.path, 'a/k'),
        cure: /free up space/,
      });
    expect(await store.get('a/k')).toBeNull();
    expect(await filesUnder(folder.path)).toEqual([]);
  });

  it('during a checkpoint leaves the previous one', async () => {
    const spec = tinySpec();
    let putsLeft = Number.POSITIVE_INFINITY;
    const store = new FileObjectStore({
      folder: folder.path,
      write: async (path, bytes) => {
        putsLeft -= 1;
        if (putsLeft < 0) throw diskError('ENOSPC');
        await writeDurably(path, bytes);
      },
    });
    const writer = checkpointsIn(store);
    await writer.write(tinyState(spec, 1));
    putsLeft = 2;
    await expect(writer.write(tinyState(spec, 2))).rejects.toMatchObject({ kind: 'environment' });
    const found = await checkpointsIn(store).latest();
    expect(bitsOf(found!)).toEqual(bitsOf(tinyState(spec, 1)));
    putsLeft = Number.POSITIVE_INFINITY;
    await writer.write(tinyState(spec, 2));
    expect((await checkpointsIn(store).latest())!.outerStep).toBe(2);
  });
});

it('partial files of killed processes are removed when old and kept when young', async () => {
  const incoming = join(folder.path, '.incoming');
  for (const name of ['old', 'young']) {
    await mkdir(join(incoming, name), { recursive: true });
    await writeFile(join(incoming, name, 'object'), 'x');
  }
  const longAgo = new Date('2020-01-01T00:00:00Z');
  await utimes(join(incoming, 'old'), longAgo, longAgo);
  await new FileObjectStore({ folder: folder.path }).put('k', Buffer.from('x'), {
    kind: 'always',
  });
  expect(await readdir(incoming)).toEqual(['young']);
});

describe('addresses', () => {
  const s3 = { region: 'us-east-1', forcePathStyle: true };
  it('open the store they name', () => {
    expect(openObjectStore('/data/run', s3).address).toBe('file:///data/run');
    expect(openObjectStore('file:///data/run/', s3).address).toBe('file:///data/run');
    expect(openObjectStore('runs/a', s3).address).toBe(`file://${process.cwd()}/runs/a`);
    expect(openObjectStore('s3://bucket/a/b/', s3).address).toBe('s3://bucket/a/b');
    expect(openObjectStore('s3://bucket', s3)).toBeInstanceOf(S3ObjectStore);
  });

  it.each(['', 'file://', 's3://', 's3://Bucket/x', 's3://a/x', 'http://host/x', 'gs://bucket/x'])(
    'refuse "%s"',
    (address) => {
      expect(() => openObjectStore(address, s3)).toThrow('not the address of an object store');
    },
  );
});
