// Stamps and folders of the bootstrap: complete or absent, and no work when nothing has changed.
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  beQuiet,
  findOnPath,
  publishFolder,
  runCommand,
  runStep,
} from '../../../infra/bootstrap/base.mjs';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const folder = openedForEach(temporaryFolder);
afterEach(() => vi.unstubAllEnvs());

describe('publishFolder', () => {
  it('leaves nothing behind when filling fails', async () => {
    const target = join(folder.path, 'library');
    const filling = publishFolder(target, async (temporary) => {
      await writeFile(join(temporary, 'half'), 'x');
      throw new Error('disk full');
    });
    await expect(filling).rejects.toThrow('disk full');
    expect(await readdir(folder.path)).toEqual([]);
  });

  it('removes leftovers of a killed process, and nothing else', async () => {
    const target = join(folder.path, 'library');
    // This is above the largest process id that Linux assigns.
    await mkdir(`${target}.99999999.tmp`);
    await mkdir(`${target}-2.99999999.tmp`);
    await publishFolder(target, () => Promise.resolve());
    expect((await readdir(folder.path)).sort()).toEqual(['library', 'library-2.99999999.tmp']);
  });
});

it('runCommand ends a command that takes too long, with its children', async () => {
  const result = await runCommand('/bin/sh', ['-c', 'sleep 600 & wait'], { timeoutMs: 200 });
  expect(result.problem).toContain('not finished after 0.2 s');
});

it('finds only executable files on PATH', async () => {
  vi.stubEnv('PATH', folder.path);
  await writeFile(join(folder.path, 'tool'), '', { mode: 0o644 });
  expect(findOnPath('tool')).toBeUndefined();
  await writeFile(join(folder.path, 'other'), '', { mode: 0o755 });
  expect(findOnPath('other')).toBe(join(folder.path, 'other'));
});

describe('a step', () => {
  let printed = '';
  beforeEach(() => {
    printed = '';
    vi.useFakeTimers();
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      printed += String(text);
      return true;
    });
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  it('is one line, after a line on what takes long', async () => {
    await runStep('quick', (announce) => {
      announce('what is soon over');
      return { state: 'ok', note: 'done' };
    });
    expect(printed).toBe('ok   quick (done)\n');
    const slow = runStep('slow', async (announce) => {
      announce('the first part');
      announce('the second part');
      await vi.advanceTimersByTimeAsync(30_000);
      return { state: 'ok', note: 'done' };
    });
    await slow;
    expect(printed).toMatch(
      /^ok {3}quick.*\n\.{3} {2}slow: the second part\nok {3}slow \(done.*\n$/,
    );
  });

  it('says nothing when it is to be quiet, unless something is wrong', async () => {
    beQuiet();
    await runStep('good', () => ({ state: 'ok', note: 'done' }));
    await runStep('bad', () => ({ state: 'warning', note: 'missing', cure: ['install it'] }));
    expect(printed).toBe('!!   bad (missing)\n       install it\n');
  });
});
