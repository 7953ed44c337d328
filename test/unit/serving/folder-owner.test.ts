/** The one owner of a folder of state: many that start at once, and pauses. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { ObjectLease } from '../../../shared/storage/lease.js';
import { thisProcess, type ProcessIdentity } from '../../../shared/storage/process-identity.js';
import { ownFolder } from '../../../worker/serving/state/folder-owner.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';
import { expectFailureOf } from '../../fixtures/failures.js';

let folder: TemporaryFolder;
let startCount = 0;
type OwnedFolder = Awaited<ReturnType<typeof ownFolder>>;

const taken: OwnedFolder[] = [];
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(async () => {
  await Promise.all(taken.splice(0).map((owned) => owned.giveBack()));
  await folder.remove();
});

async function owned(clock: Clock = systemClock): Promise<OwnedFolder> {
  startCount += 1;
  const start = `start-${startCount}`;
  const folderOwned = await ownFolder(folder.path, { clock, start, onWatched: () => undefined });
  taken.push(folderOwned);
  return folderOwned;
}

/** Takes the lease of the folder as another process does, over one that it thinks dead. */
async function takeAs(process: ProcessIdentity, nowMs = 0): Promise<void> {
  const store = new FileObjectStore({ folder: folder.path });
  const lease = new ObjectLease({ store, key: 'owner.json', run: 'state' });
  const holder = { start: 'another', process, sinceMs: nowMs, beatMs: nowMs };
  const answer = await lease.take(holder, null);
  if (answer.kind === 'held') await lease.take(holder, answer.mark);
}

describe('a folder of state', () => {
  it('is refused while its owner runs, and given back', async () => {
    const first = await owned();
    await expectFailureOf(owned(), 'usage', {
      found: `process ${process.pid} of ${thisProcess().host}`,
    });
    await first.giveBack();
    await owned();
  });

  it.each([
    ['was never owned', () => Promise.resolve()],
    // No process of this machine has had such a start.
    ['has a dead owner', () => takeAs({ ...thisProcess(), startTicks: '1' })],
  ])('that %s has one new owner of many that want it', async (_state, prepare) => {
    await prepare();
    const wishes = await Promise.allSettled(Array.from({ length: 12 }, () => owned()));
    expect(wishes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('is no longer written by an owner that stood still and lost it', async () => {
    const clock = steppedClock();
    const paused = await owned(clock);
    await paused.assertOwned();
    await takeAs({ ...thisProcess(), host: 'ranker-0', pid: 7 });
    clock.advance(30_000);
    await expectFailureOf(paused.assertOwned(), 'usage', { what: /took over the state folder/ });
  });
});
