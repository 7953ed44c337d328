// Stamps and folders of the bootstrap: complete or absent, and no work when nothing has changed.
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  cacheRoot,
  findOnPath,
  lastTellingLine,
  publishFolder,
  runCommand,
  writeWhole,
} from '../../../infra/bootstrap/base.mjs';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qianmo-bootstrap-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

describe('publishFolder', () => {
  it('leaves nothing behind when filling fails', async () => {
    const target = join(folder, 'library');
    const filling = publishFolder(target, async (temporary) => {
      await writeFile(join(temporary, 'half'), 'x');
      throw new Error('disk full');
    });
    await expect(filling).rejects.toThrow('disk full');
    expect(await readdir(folder)).toEqual([]);
  });

  it('removes leftovers of a killed process, and nothing else', async () => {
    const target = join(folder, 'library');
    // This is above the largest process id that Linux assigns.
    await mkdir(`${target}.99999999.tmp`);
    await mkdir(`${target}-2.99999999.tmp`);
    await publishFolder(target, () => Promise.resolve());
    expect((await readdir(folder)).sort()).toEqual(['library', 'library-2.99999999.tmp']);
  });

  it('fills once and keeps an existing folder', async () => {
    const target = join(folder, 'library');
    let fillCount = 0;
    const fill = async (temporary: string): Promise<void> => {
      fillCount += 1;
      await writeFile(join(temporary, 'file'), String(fillCount));
    };
    await publishFolder(target, fill);
    await publishFolder(target, fill);
    expect(fillCount).toBe(1);
    expect(await readFile(join(target, 'file'), 'utf8')).toBe('1');
    expect(await readdir(folder)).toEqual(['library']);
  });
});

describe('writeWhole', () => {
  it('creates missing folders and replaces the file', async () => {
    const path = join(folder, 'a', 'b');
    writeWhole(path, 'one');
    writeWhole(path, 'two');
    expect(await readFile(path, 'utf8')).toBe('two');
    expect(await readdir(join(folder, 'a'))).toEqual(['b']);
  });
});

describe('cacheRoot', () => {
  it('prefers XDG_CACHE_HOME, then HOME', () => {
    vi.stubEnv('XDG_CACHE_HOME', '/somewhere');
    expect(cacheRoot()).toBe('/somewhere/qianmo');
    vi.stubEnv('XDG_CACHE_HOME', '');
    vi.stubEnv('HOME', '/home/ada');
    expect(cacheRoot()).toBe('/home/ada/.cache/qianmo');
  });
});

describe('runCommand', () => {
  it('returns the output and no problem on success', async () => {
    const result = await runCommand(process.execPath, ['-e', 'console.log(6 * 7)']);
    expect(result).toEqual({ ok: true, output: '42\n', problem: '' });
  });

  it('reports the most informative line of a failure', async () => {
    const script = 'console.error("error: no disk"); console.error("bye"); process.exit(1)';
    const result = await runCommand(process.execPath, ['-e', script]);
    expect(result.ok).toBe(false);
    expect(result.problem).toContain('error: no disk');
  });

  it('ends a command that takes too long, with its children', async () => {
    const result = await runCommand('/bin/sh', ['-c', 'sleep 600 & wait'], { timeoutMs: 200 });
    expect(result.problem).toContain('not finished after 0.2 s');
  });

  it('says when the program does not exist', async () => {
    const result = await runCommand(join(folder, 'missing'), []);
    expect(result.problem).toContain('ENOENT');
  });
});

it('finds only executable files on PATH', async () => {
  vi.stubEnv('PATH', folder);
  await writeFile(join(folder, 'tool'), '', { mode: 0o644 });
  expect(findOnPath('tool')).toBeUndefined();
  await writeFile(join(folder, 'other'), '', { mode: 0o755 });
  expect(findOnPath('other')).toBe(join(folder, 'other'));
});

it("skips npm's lines about its log", () => {
  const output = 'npm error code ENOSPC\nnpm error A complete log of this run is in: x\n';
  expect(lastTellingLine(output)).toBe('npm error code ENOSPC');
});
