// Stamps and folders of the bootstrap: complete or absent, and no work when nothing has changed.
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { findOnPath, publishFolder, runCommand } from '../../../infra/bootstrap/base.mjs';

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
});

describe('runCommand', () => {
  it('ends a command that takes too long, with its children', async () => {
    const result = await runCommand('/bin/sh', ['-c', 'sleep 600 & wait'], { timeoutMs: 200 });
    expect(result.problem).toContain('not finished after 0.2 s');
  });
});

it('finds only executable files on PATH', async () => {
  vi.stubEnv('PATH', folder);
  await writeFile(join(folder, 'tool'), '', { mode: 0o644 });
  expect(findOnPath('tool')).toBeUndefined();
  await writeFile(join(folder, 'other'), '', { mode: 0o755 });
  expect(findOnPath('other')).toBe(join(folder, 'other'));
});
