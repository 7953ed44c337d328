/**
 * A task store or checkpoint that is missing, damaged or belongs to another run is refused, and no
 * file is touched.
 */

import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { commandRoom, type ExpectedFailure } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';

const room = openedOnce(commandRoom);
let run: string;

/** One store and one trained run, copied back before every test. */
beforeAll(async () => {
  run = await room.config('run');
  await room.done(['prepare', run]);
  await room.done(['train', run]);
  await room.copy('store', 'whole-store');
  await room.copy('run', 'whole-run');
});
beforeEach(async () => {
  await room.copy('whole-store', 'store');
  await room.copy('whole-run', 'run');
});

async function flipByteOf(path: string): Promise<void> {
  const bytes = await readFile(path);
  const middle = Math.floor(bytes.length / 2);
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
  await writeFile(path, bytes);
}

async function replaceIn(path: string, from: string, to: string): Promise<void> {
  const text = await readFile(path, 'utf8');
  expect(text).toContain(from);
  await writeFile(path, text.replace(from, to));
}

const RESTORE = /restore the store from a copy, or write it again with `qianmo prepare --force`/;
const checkpoint = (...names: string[]): string => join('run', 'checkpoints', ...names);

describe('a task store', () => {
  it.each<[string, (store: string) => Promise<void>, Omit<ExpectedFailure, 'exitCode'>]>([
    [
      'that was never prepared',
      (store) => rm(store, { recursive: true }),
      { what: /^there is no task store$/, where: /^store$/, cure: /`qianmo prepare`/ },
    ],
    [
      'whose rows are cut short',
      (store) => truncate(join(store, 'rows-00000.arrow'), 100),
      {
        what: /another size than its manifest says/,
        where: /rows-00000\.arrow$/,
        expected: /\d+ bytes/,
        found: /^100 bytes$/,
        cure: RESTORE,
      },
    ],
    [
      'of another version',
      (store) =>
        replaceIn(join(store, 'manifest.json'), '"formatVersion": 1', '"formatVersion": 9'),
      { what: /not one that this version reads/, found: /formatVersion/, cure: /qianmo prepare/ },
    ],
  ])('%s', async (_, damage, expected) => {
    await damage(room.path('store'));
    await room.refused(['train', run, '--resume'], { exitCode: 1, ...expected });
  });

  it('without held-out adgroups is not evaluated, and no global arm is trained in vain', async () => {
    const unheld = await room.config('unheld', ({ data }) => {
      data['store'] = 'unheld-store';
      data['taskSplit'] = { by: 'hash', validationShare: 0, testShare: 0 };
    });
    await room.done(['prepare', unheld]);
    await room.done(['train', unheld]);
    await room.refused(['evaluate', unheld], {
      exitCode: 1,
      what: /^the task store has no test adgroup$/,
      where: /^unheld-store$/,
      found: /24 train, 0 validation, 0 test/,
      cure: /testShare/,
    });
  });
});

describe('checkpoints', () => {
  it('with blobs that were changed', async () => {
    const blobs = await readdir(room.path(checkpoint('blobs')));
    for (const name of blobs) await flipByteOf(room.path(checkpoint('blobs', name)));
    await room.refused(['train', run, '--resume'], {
      exitCode: 1,
      what: /^there are checkpoints, but none is complete$/,
      where: /run\/checkpoints$/,
      found: /blobs\/[0-9a-f]{64}: a blob does not match its reference/,
      cure: /restore .* or start again with --fresh/,
    });
  });

  it('that do not exist', async () => {
    await rm(room.path('run'), { recursive: true });
    await room.refused(['evaluate', run], {
      exitCode: 2,
      what: /no checkpoint to evaluate/,
      where: /run\/checkpoints/,
      cure: /qianmo train/,
    });
  });

  it('of a finished run are not overwritten without an explicit option', async () => {
    await room.refused(['train', run], {
      exitCode: 2,
      what: /^this output has a finished run$/,
      where: /^run$/,
      found: /outer step 2 of 2/,
      cure: /--resume .* --fresh/,
    });
  });

  it('of another config are refused with the fields that differ', async () => {
    const other = await room.config('other', (config) => {
      Object.assign(config, { run: 'run', output: 'run', seed: 4 });
      Object.assign(config.training, { gradientNormMax: 3 });
    });
    await room.refused(['train', other, '--resume'], {
      exitCode: 2,
      what: /another config/,
      where: /run\/checkpoints\/manifests/,
      found: /seed: 3 -> 4[^]*training\.gradientNormMax: 10 -> 3/,
      cure: /restore these fields/,
    });
  });

  it('of another task store are refused', async () => {
    const other = await room.config('other', (config) => {
      Object.assign(config, { run: 'run', output: 'run' });
      Object.assign(config.data, { store: 'other-store', where: 'second < 18' });
    });
    await room.done(['prepare', other]);
    await room.refused(['train', other, '--resume'], {
      exitCode: 2,
      what: /another task store/,
      expected: /digest/,
      found: /digest/,
      cure: /the store that the run started with/,
    });
  });
});
