/**
 * A task store or checkpoint that is missing, damaged or belongs to another run is refused, and no
 * file is touched.
 */

import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
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

async function replaceIn(path: string, from: string, to: string): Promise<void> {
  const text = await readFile(path, 'utf8');
  expect(text).toContain(from);
  await writeFile(path, text.replace(from, to));
}

const RESTORE = /restore the store from a copy, or write it again with `qianmo prepare --force`/;

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
  it('that do not exist', async () => {
    await rm(room.path('run'), { recursive: true });
    await room.refused(['evaluate', run], {
      exitCode: 2,
      what: /no checkpoint to evaluate/,
      where: /run\/checkpoints/,
      cure: /qianmo train/,
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
