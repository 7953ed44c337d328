/**
 * The one process that writes the state in a folder. What it leaves when it is killed is taken over: at once where
 * the system says that it has ended, otherwise, as after the restart of a container or on another machine, when it
 * has given no sign for a while. An owner that stood still looks before it writes.
 */

import { readFile, stat, unlink, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { systemCodeOf, systemFailure } from '../../../shared/base/system-errors.js';
import { makeFolderDurably, replaceDurably } from '../../../shared/storage/file-bytes.js';
import { withFolderLock } from '../../../shared/storage/file-lock.js';
import {
  livenessOf,
  ProcessIdentitySchema,
  thisProcess,
  type ProcessIdentity,
} from '../../../shared/storage/process-identity.js';

const RENEWAL_INTERVAL_MS = 5_000;
/** An owner looks before it writes when its last sign is older. */
const TRUSTED_AGE_MAX_MS = 15_000;
/** An owner that cannot be seen from here is gone after so long without a sign. */
const SILENCE_MAX_MS = 30_000;
const WATCH_INTERVAL_MS = 500;

export interface OwnedFolder {
  /** @throws QianmoError `usage` if another process has taken the folder, as after a pause of this one. */
  assertOwned(): Promise<void>;
  giveBack(): Promise<void>;
}

interface OwnerSurroundings {
  readonly clock: Clock;
  /** Called before an owner that cannot be seen from here is waited for. */
  readonly onWatched: (owner: string, silenceMaxMs: number) => void;
}

/** @throws QianmoError `usage` while another process has it. */
export async function ownFolder(
  folder: string,
  { clock, onWatched }: OwnerSurroundings,
): Promise<OwnedFolder> {
  const path = join(folder, 'owner.json');
  try {
    await makeFolderDurably(folder);
    const before = await ownerIn(path);
    let silent: Owner | null = null;
    if (before !== null && livenessOf(before.identity) === 'unknown') {
      onWatched(nameOf(before.identity), SILENCE_MAX_MS);
      if (await isSilent(before, path, clock)) silent = before;
    }
    // One of several processes that find a dead owner takes its place.
    await withFolderLock(folder, clock, async () => {
      const owner = await ownerIn(path);
      if (owner !== null && !hasEnded(owner, silent)) throw owned(folder, owner.identity);
      await replaceDurably(path, Buffer.from(JSON.stringify(thisProcess())));
    });
  } catch (cause) {
    throw systemFailure(cause, 'taking the folder of the state', folder);
  }
  return new Ownership(folder, path, clock);
}

class Ownership implements OwnedFolder {
  readonly #folder: string;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #given = new AbortController();
  readonly #renewing: Promise<void>;
  #renewedMs: number;

  constructor(folder: string, path: string, clock: Clock) {
    this.#folder = folder;
    this.#path = path;
    this.#clock = clock;
    this.#renewedMs = clock.monotonicMs();
    this.#renewing = this.#renewAll();
  }

  async assertOwned(): Promise<void> {
    if (this.#clock.monotonicMs() - this.#renewedMs > TRUSTED_AGE_MAX_MS) await this.#renew();
  }

  async giveBack(): Promise<void> {
    this.#given.abort();
    await this.#renewing;
    const owner = await ownerIn(this.#path).catch(() => null);
    if (isThisProcess(owner)) await unlink(this.#path).catch(() => undefined);
  }

  /** A failed one is made up for by the next, or refuses the next write. */
  async #renewAll(): Promise<void> {
    const { signal } = this.#given;
    for (;;) {
      await this.#clock.sleep(RENEWAL_INTERVAL_MS, signal);
      if (signal.aborted) return;
      await this.#renew().catch(() => undefined);
    }
  }

  async #renew(): Promise<void> {
    const startMs = this.#clock.monotonicMs();
    const owner = await ownerIn(this.#path);
    if (!isThisProcess(owner)) throw lost(this.#folder, owner);
    const now = new Date(this.#clock.epochMs());
    await utimes(this.#path, now, now);
    this.#renewedMs = startMs;
  }
}

interface Owner {
  readonly identity: ProcessIdentity;
  /** The time of its last sign. */
  readonly mtimeMs: number;
}

/** Null without a legible one. */
async function ownerIn(path: string): Promise<Owner | null> {
  try {
    const { mtimeMs } = await stat(path);
    const identity = ProcessIdentitySchema.parse(JSON.parse(await readFile(path, 'utf8')));
    return { identity, mtimeMs };
  } catch (cause) {
    if (systemCodeOf(cause) === null || systemCodeOf(cause) === 'ENOENT') return null;
    throw cause;
  }
}

/** True if the owner gives no sign for as long as it may be silent. */
async function isSilent(owner: Owner, path: string, clock: Clock): Promise<boolean> {
  const endMs = clock.monotonicMs() + SILENCE_MAX_MS;
  while (clock.monotonicMs() < endMs) {
    await clock.sleep(WATCH_INTERVAL_MS);
    if (!isDeepStrictEqual(await ownerIn(path), owner)) return false;
  }
  return true;
}

function hasEnded(owner: Owner, silent: Owner | null): boolean {
  return livenessOf(owner.identity) === 'ended' || isDeepStrictEqual(owner, silent);
}

function isThisProcess(owner: Owner | null): boolean {
  return isDeepStrictEqual(owner?.identity, thisProcess());
}

function nameOf({ host, pid }: ProcessIdentity): string {
  return `process ${pid} of ${host}`;
}

function owned(folder: string, owner: ProcessIdentity): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'another process keeps its state in this folder',
    where: folder,
    found: nameOf(owner),
    cure: 'give another --state; --redis shares the evidence of --explore',
  });
}

function lost(folder: string, owner: Owner | null): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'another process has taken the folder of the state, since this one gave no sign for long',
    where: folder,
    found: owner === null ? 'no owner' : nameOf(owner.identity),
    cure: 'end this server; the other one goes on with what it has acknowledged',
  });
}
