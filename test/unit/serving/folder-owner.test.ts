/** The one owner of a folder of state, also where many processes start at the same moment. */

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { thisProcess } from '../../../shared/storage/process-identity.js';
import { ownFolder } from '../../../worker/serving/decisions/folder-owner.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

let folder: TemporaryFolder;
let path: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  path = join(folder.path, 'owner.json');
});
afterEach(() => folder.remove());

const owned = (): Promise<() => Promise<void>> => ownFolder(folder.path, systemClock);

/** No process of this machine has had such a start. */
const leaveDeadOwner = (): Promise<void> =>
  writeFile(path, JSON.stringify({ ...thisProcess(), startTicks: '1' }));

describe('a folder of state', () => {
  it('is refused while its owner runs, and given back', async () => {
    const giveBack = await owned();
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual(thisProcess());
    await expect(owned()).rejects.toMatchObject({
      kind: 'usage',
      report: { found: `process ${process.pid} of ${thisProcess().host}` },
    });
    await giveBack();
    await (
      await owned()
    )();
  });

  it.each([
    ['was never owned', () => Promise.resolve()],
    ['has a dead owner', leaveDeadOwner],
    ['has an illegible owner', () => writeFile(path, '{"ho')],
  ])('that %s has one new owner of many that want it', async (_state, leave) => {
    await leave();
    const wishes = await Promise.allSettled(Array.from({ length: 12 }, owned));
    expect(wishes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect((await readdir(folder.path)).filter((name) => name.endsWith('.part'))).toEqual([]);
  });
});
