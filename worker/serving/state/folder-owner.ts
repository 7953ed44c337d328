/** The one process that writes the state in a folder, by a lease that the folder contains. */

import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError, errorOf } from '../../../shared/base/errors.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { holdLease } from '../../../shared/storage/lease.js';
import type { ProcessIdentity } from '../../../shared/storage/process-identity.js';

const RENEWAL_INTERVAL_MS = 5_000;
/** An owner looks before it writes when it renewed its lease longer ago. */
const TRUSTED_AGE_MAX_MS = 15_000;
/** An owner that cannot be seen from here is gone after so long without a sign. */
const SILENCE_MAX_MS = 30_000;

interface OwnedFolder {
  /** @throws QianmoError `usage` if another process has taken the folder, as after a pause of this one. */
  assertOwned(): Promise<void>;
  giveBack(): Promise<void>;
}

interface OwnerSurroundings {
  readonly clock: Clock;
  /** Sets this start of the process apart from any other. */
  readonly start: string;
  /** Called before an owner that cannot be seen from here is waited for. */
  readonly onWatched: (owner: string, silenceMaxMs: number) => void;
}

/** @throws QianmoError `usage` while another process has it. */
export async function ownFolder(
  folder: string,
  { clock, start, onWatched }: OwnerSurroundings,
): Promise<OwnedFolder> {
  const lease = await holdLease({
    ...{ store: new FileObjectStore({ folder, clock }), key: 'owner.json', run: 'state' },
    ...{ start, clock, beatIntervalMs: RENEWAL_INTERVAL_MS, silenceMsMax: SILENCE_MAX_MS },
    onWait: (holder) => onWatched(nameOf(holder.process), SILENCE_MAX_MS),
    busyError: (holder) =>
      errorOf('usage', 'another process keeps its state in this folder', {
        where: folder,
        found: nameOf(holder.process),
        cure: 'give another --state; --redis shares the evidence of --explore',
      }),
  });
  return {
    assertOwned: () =>
      lease.demandSince(TRUSTED_AGE_MAX_MS).catch((cause: unknown) => {
        throw new QianmoError({
          kind: 'usage',
          what: 'another process took over the state folder because this one stopped responding',
          where: folder,
          cure: 'end this server; the other one goes on with what it has acknowledged',
          cause,
        });
      }),
    giveBack: () => lease.release(),
  };
}

function nameOf({ host, pid }: ProcessIdentity): string {
  return `process ${pid} of ${host}`;
}
