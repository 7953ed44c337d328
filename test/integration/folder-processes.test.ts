/** Folders between processes of the compiled code, which stand still, are killed, or find the disk full. */

import { execFile, fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it, test } from 'vitest';
import { packageRoot } from '../../infra/library/package-root.js';
import { systemClock } from '../../shared/base/clock.js';
import { FileObjectStore } from '../../shared/storage/file-object-store.js';
import { openedForEach } from '../fixtures/opened.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';

const compiled = (path: string): string => new URL(`dist/${path}`, packageRoot).href;
const STORE_MODULE = JSON.stringify(compiled('shared/storage/file-object-store.js'));

const folder = openedForEach(temporaryFolder);

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

describe('a writer that is stopped between its check and its rename', () => {
  /** Stops itself before its first rename into place, as SIGSTOP from outside may at any time. */
  const STOPPING_WRITER = `
    import fs from 'node:fs/promises';
    import { syncBuiltinESMExports } from 'node:module';
    const rename = fs.rename;
    let isFirst = true;
    fs.rename = async (from, to) => {
      if (isFirst && to.endsWith('pointer')) {
        isFirst = false;
        process.send('checked');
        await new Promise((resolve) => process.once('message', resolve));
        process.kill(process.pid, 'SIGSTOP');
      }
      return rename(from, to);
    };
    syncBuiltinESMExports();
    const { FileObjectStore } = await import(${STORE_MODULE});
    const [folder] = process.argv.slice(2);
    const store = new FileObjectStore({ folder });
    const { etag } = await store.get('pointer');
    const written = await store.put('pointer', Buffer.from('late'), { kind: 'unchanged', etag });
    process.send(written === null ? 'refused' : 'written');
    process.disconnect();
  `;

  async function isStopped(pid: number): Promise<void> {
    while (!/^\d+ \(.*\) T /.test(await readFile(`/proc/${pid}/stat`, 'utf8')))
      await systemClock.sleep(5);
  }

  it('does not overwrite what was written meanwhile', async () => {
    await writeFile(join(folder.path, 'writer.mjs'), STOPPING_WRITER);
    const store = new FileObjectStore({ folder: join(folder.path, 'store') });
    const first = await store.put('pointer', Buffer.from('first'), { kind: 'absent' });
    const writer = fork(join(folder.path, 'writer.mjs'), [store.folder]);
    expect((await once(writer, 'message'))[0]).toBe('checked');
    writer.send('stop');
    await isStopped(writer.pid!);

    const locks = join(store.folder, '.locks');
    const longAgo = new Date('2020-01-01T00:00:00Z');
    for (const name of await readdir(locks, { recursive: true }))
      await utimes(join(locks, name), longAgo, longAgo);
    const second = await store.put('pointer', Buffer.from('second'), {
      ...{ kind: 'unchanged', etag: first! },
    });
    expect(second).not.toBeNull();

    // The writer may be gone before anybody asks.
    const exited = once(writer, 'exit');
    writer.kill('SIGCONT');
    expect((await once(writer, 'message'))[0]).toBe('refused');
    expect(Buffer.from((await store.get('pointer'))!.bytes).toString()).toBe('second');
    await exited;
    for (const hidden of ['.incoming', '.locks'])
      expect(await readdir(join(store.folder, hidden))).toEqual([]);
  });
});

test('a work folder is removed where its owner cannot be written, as on a full disk', async () => {
  const module = JSON.stringify(compiled('coordinator/logs/work-folder.js'));
  const opening = `
    const { withWorkFolder } = await import(${module});
    await withWorkFolder('ope', process.argv[1], () => {}).catch(({ kind }) => console.log(kind));`;
  const limited = 'ulimit -f 0; exec "$0" --input-type=module --eval "$1" "$2"';
  const words = ['-c', limited, process.execPath, opening, folder.path];
  const { stdout } = await promisify(execFile)('sh', words);
  expect(stdout).toBe('environment\n');
  expect(await readdir(folder.path)).toEqual([]);
});
