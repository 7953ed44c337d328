/** The one owner of a folder of state: many that start at once, owners that cannot be seen, and pauses. */

import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import { thisProcess, type ProcessIdentity } from '../../../shared/storage/process-identity.js';
import { ownFolder, type OwnedFolder } from '../../../worker/serving/state/folder-owner.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

let folder: TemporaryFolder;
let path: string;
let watched: string[];
const taken: OwnedFolder[] = [];
beforeEach(async () => {
  folder = await temporaryFolder();
  path = join(folder.path, 'owner.json');
  watched = [];
});
afterEach(async () => {
  await Promise.all(taken.splice(0).map((owned) => owned.giveBack()));
  await folder.remove();
});

async function owned(clock: Clock = systemClock): Promise<OwnedFolder> {
  const onWatched = (owner: string, silenceMs: number): void => {
    watched.push(`${owner}, ${silenceMs} ms`);
  };
  const folderOwned = await ownFolder(folder.path, { clock, onWatched });
  taken.push(folderOwned);
  return folderOwned;
}

/** No process of this machine has had such a start. */
const DEAD: ProcessIdentity = { ...thisProcess(), startTicks: '1' };
const UNSEEN: ProcessIdentity = {
  ...thisProcess(),
  host: 'ranker-0',
  pid: 7,
  pidNamespace: 'pid:[1]',
};
const leave = (owner: ProcessIdentity): Promise<void> => writeFile(path, JSON.stringify(owner));
const ownerThere = async (): Promise<unknown> => JSON.parse(await readFile(path, 'utf8'));

describe('a folder of state', () => {
  it('is refused while its owner runs, and given back', async () => {
    const first = await owned();
    expect(await ownerThere()).toEqual(thisProcess());
    await expect(owned()).rejects.toMatchObject({
      kind: 'usage',
      report: { found: `process ${process.pid} of ${thisProcess().host}` },
    });
    await first.giveBack();
    await owned();
    expect(watched).toEqual([]);
  });

  it.each([
    ['was never owned', () => Promise.resolve()],
    ['has a dead owner', () => leave(DEAD)],
    ['has an illegible owner', () => writeFile(path, '{"ho')],
  ])('that %s has one new owner of many that want it', async (_state, prepare) => {
    await prepare();
    const wishes = await Promise.allSettled(Array.from({ length: 12 }, () => owned()));
    expect(wishes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect((await readdir(folder.path)).filter((name) => name.endsWith('.part'))).toEqual([]);
  });

  it('is taken from an owner that cannot be seen and gives no sign for 30 s', async () => {
    await leave(UNSEEN);
    const clock = instantClock();
    // The new owner's own signs wait for the end of the test.
    const sleep: Clock['sleep'] = (durationMs, signal) =>
      (signal === undefined ? clock : steppedClock()).sleep(durationMs, signal);
    await owned({ ...clock, sleep });
    expect(watched).toEqual(['process 7 of ranker-0, 30000 ms']);
    expect(clock.monotonicMs()).toBe(30_000);
    expect(await ownerThere()).toEqual(thisProcess());
  });

  it('is left to an owner that cannot be seen and gives a sign', async () => {
    await leave(UNSEEN);
    const clock = instantClock();
    const sleep: Clock['sleep'] = async (durationMs) => {
      await clock.sleep(durationMs);
      if (clock.monotonicMs() > 20_000) await utimes(path, new Date(5), new Date(5));
    };
    await expect(owned({ ...clock, sleep })).rejects.toMatchObject({
      kind: 'usage',
      report: { found: 'process 7 of ranker-0' },
    });
    expect(await ownerThere()).toEqual(UNSEEN);
  });

  it('gets a sign of its owner every 5 s', async () => {
    const clock = steppedClock();
    await owned(clock);
    const signs: number[] = [];
    for (let count = 0; count < 2; count += 1) {
      await clock.asleep();
      clock.advance(5_000);
      await clock.asleep();
      signs.push((await stat(path)).mtimeMs);
    }
    expect(signs).toEqual([5_000, 10_000]);
  });

  it('is no longer written by an owner that stood still and lost it', async () => {
    const clock = steppedClock();
    const paused = await owned(clock);
    await paused.assertOwned();
    await leave(UNSEEN);
    clock.advance(30_000);
    await expect(paused.assertOwned()).rejects.toMatchObject({
      kind: 'usage',
      report: { found: 'process 7 of ranker-0' },
    });
    await paused.giveBack();
    expect(await ownerThere()).toEqual(UNSEEN);
  });
});
