/**
 * Failures that only a folder can have: full disks, permissions, dead owners of locks, other
 * processes.
 */

import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeDurably } from '../../../shared/storage/file-bytes.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { openObjectStore } from '../../../shared/storage/open-object-store.js';
import { S3ObjectStore } from '../../../shared/storage/s3-object-store.js';
import { checkpointsIn } from '../../fixtures/stores/checkpoint-stores.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';
import { bitsOf, tinySpec, tinyState } from '../../fixtures/training-states.js';

/** The compiled store, for processes of their own. */
const STORE_MODULE = JSON.stringify(
  new URL('../../../dist/shared/storage/file-object-store.js', import.meta.url).href,
);

let folder: TemporaryFolder;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder.remove());

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
      await expect(store.put('a/k', Buffer.from('object'), { kind })).rejects.toMatchObject({
        kind: 'environment',
        report: {
          what: 'the disk is full while writing an object',
          where: join(folder.path, 'a/k'),
          cure: expect.stringContaining('free up space') as string,
        },
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

describe('leftovers of killed processes', () => {
  it('partial files are removed when old and kept when young', async () => {
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
});

describe('several processes', () => {
  /** Increments the counter this many times, and records each success as one byte of `raised`. */
  const RAISER = `
    import { appendFileSync } from 'node:fs';
    import { FileObjectStore } from ${STORE_MODULE};
    const [folder, count] = process.argv.slice(2);
    const store = new FileObjectStore({ folder });
    for (let raised = 0; raised < Number(count); ) {
      const { bytes, etag } = await store.get('counter');
      const next = Buffer.from(String(Number(Buffer.from(bytes).toString()) + 1));
      if ((await store.put('counter', next, { kind: 'unchanged', etag })) === null) continue;
      appendFileSync(folder + '/raised', '+');
      raised += 1;
      process.send('raised');
    }
    process.disconnect();
  `;

  it('increment one counter without losing an increment, even if one is killed', async () => {
    await writeFile(join(folder.path, 'raiser.mjs'), RAISER);
    const store = new FileObjectStore({ folder: join(folder.path, 'store') });
    await store.put('counter', Buffer.from('0'), { kind: 'absent' });
    const raise = (count: number): ChildProcess =>
      fork(join(folder.path, 'raiser.mjs'), [store.folder, String(count)]);
    const victim = raise(1_000_000);
    const others = [raise(20), raise(20)];
    const exits = others.map((other) => once(other, 'exit'));
    await Promise.all([victim, ...others].map((child) => once(child, 'message')));
    victim.kill('SIGKILL');
    await once(victim, 'exit');
    for (const exit of exits) expect((await exit)[0]).toBe(0);
    const raisedCount = (await stat(join(store.folder, 'raised'))).size;
    const counter = Number(Buffer.from((await store.get('counter'))!.bytes).toString());
    // The victim may die after incrementing the counter and before it reports that.
    expect(raisedCount).toBeGreaterThanOrEqual(41);
    expect([raisedCount, raisedCount + 1]).toContain(counter);
  });
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
