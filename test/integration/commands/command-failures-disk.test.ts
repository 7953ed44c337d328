/** A full disk is reported plainly, and no partial file takes up the remaining space. */

import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDuckSession } from '../../../coordinator/logs/duckdb-session.js';
import { commandRoom, filesIn, resultFilesIn } from '../../fixtures/commands/command-room.js';
import { canMountDisks, smallDisk, type SmallDisk } from '../../fixtures/faults/small-disk.js';
import { openedOnce } from '../../fixtures/opened.js';

const DISK_BYTE_COUNT = 256 * 1024;

const suffix = canMountDisks ? '' : ' (SKIPPED: no file system can be mounted here)';

const room = openedOnce(commandRoom);
let small: SmallDisk;
let disk: string;
beforeAll(async () => {
  if (!canMountDisks) return;
  small = smallDisk(DISK_BYTE_COUNT);
  disk = small.folder;
  await room.done(['prepare', await room.config('run')]);
});
afterAll(() => {
  if (canMountDisks) small.close();
});

describe.skipIf(!canMountDisks)(`a full disk${suffix}`, () => {
  const what = /the disk is full/;
  const cure = /free up space.* another disk/;

  it.each(['csv', 'csv.gz', 'parquet'])('synthesize to .%s', async (ending) => {
    await small.fill(DISK_BYTE_COUNT);
    const out = join(disk, `log.${ending}`);
    await room.refused(['synthesize', '--rows', '200k', '--out', out], {
      exitCode: 3,
      what,
      where: new RegExp(`/log\\.${ending}$`),
      found: /ENOSPC|space/,
      cure,
    });
    expect(await filesIn(disk)).toHaveLength(1);
  });

  it('synthesize to .parquet, with space only for the text it is made from', async () => {
    await small.fill(110_000);
    const out = join(disk, 'log.parquet');
    await room.refused(['synthesize', '--rows', '1700', '--out', out], {
      exitCode: 3,
      what,
      where: new RegExp(`^${disk}$`),
      cure,
    });
    expect(await filesIn(disk)).toHaveLength(1);
  });

  it('prepare, for its store', async () => {
    await small.fill(8192);
    const path = await room.config(
      'store',
      ({ data }) => void (data['store'] = join(disk, 'store')),
    );
    await room.refused(['prepare', path], {
      exitCode: 3,
      what,
      where: new RegExp(`^${disk}`),
      cure,
    });
    expect(await filesIn(disk)).toHaveLength(1);
  });

  it('prepare, for what does not fit its memory', async () => {
    await small.fill(8192);
    const session = await openDuckSession(disk, 256, new AbortController().signal);
    try {
      const large = session.run(
        'CREATE TABLE large AS SELECT range AS a, range AS b FROM range(20000000)',
      );
      await expect(large).rejects.toMatchObject({
        kind: 'environment',
        report: {
          what: expect.stringMatching(what) as string,
          where: expect.stringContaining(disk) as string,
          cure: expect.stringMatching(/TMPDIR/) as string,
        },
      });
    } finally {
      session.close();
    }
    await rm(join(disk, 'spill'), { recursive: true, force: true });
    expect(await filesIn(disk)).toHaveLength(1);
  });

  it.each([0, 16_384])('train with %i bytes of space', async (freeByteCount) => {
    await small.fill(freeByteCount);
    const path = await room.config(
      'train',
      (config) => void (config['output'] = join(disk, 'train')),
    );
    await room.refused(['train', path], {
      exitCode: 3,
      what,
      where: new RegExp(`${disk}/train/checkpoints`),
      cure,
    });
    const left = (await resultFilesIn(disk)).filter((file) => !/^filler |\/blobs\//.test(file));
    expect(left).toEqual([]);
    // Whole blobs of a checkpoint that has no manifest yet. The run overwrites them.
    await small.fill(DISK_BYTE_COUNT / 2);
    await room.done(['train', path]);
    await rm(join(disk, 'train'), { recursive: true });
  });

  it('evaluate, for its report', async () => {
    await mkdir(join(disk, 'evaluate'));
    await small.fill(DISK_BYTE_COUNT / 2);
    const path = await room.config('evaluate', (config) => {
      config['output'] = join(disk, 'evaluate');
      config['evaluation'] = { arms: ['constant', 'meta-unadapted'] };
    });
    await room.done(['train', path]);
    await small.free();
    const before = await resultFilesIn(disk);
    await small.fill(0);
    await room.refused(['evaluate', path], {
      exitCode: 3,
      what,
      where: /test-logits\.safetensors$/,
      cure,
    });
    await small.free();
    expect(await resultFilesIn(disk)).toEqual(before);
  });
});
