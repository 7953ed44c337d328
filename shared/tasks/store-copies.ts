/**
 * Local copies of task stores that are kept elsewhere. Processes of one user share them, in a folder that
 * nobody else can read. A copy that no process uses is kept for the next one, within bounds on size and
 * age. What processes left that ended without closing counts as unused.
 */

import { chmod, lstat, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { systemClock, type Clock } from '../base/clock.js';
import { QianmoError } from '../base/errors.js';
import { systemCodeOf, systemFailure } from '../base/system-errors.js';
import { PART_SUFFIX } from '../storage/file-bytes.js';
import { removeFolder, withFolderLock } from '../storage/file-lock.js';
import { livenessOf, ProcessIdentitySchema, thisProcess } from '../storage/process-identity.js';

/** Bounds all copies that no process uses, together. */
const UNUSED_BYTE_COUNT_MAX = 8 * 1024 ** 3;
const UNUSED_AGE_MAX_MS = 24 * 3_600_000;
/** A user that cannot be seen from here, such as one in another container, counts for this long. */
const UNSEEN_USER_AGE_MAX_MS = 7 * 24 * 3_600_000;

const USERS_FOLDER = '.users';
const DIGEST = /^[0-9a-f]{64}$/;

export interface StoreCopy {
  readonly folder: string;
  close(): Promise<void>;
}

interface CopyBounds {
  readonly unusedByteCountMax: number;
  readonly unusedAgeMaxMs: number;
  readonly clock: Clock;
}

const BOUNDS: CopyBounds = {
  unusedByteCountMax: UNUSED_BYTE_COUNT_MAX,
  unusedAgeMaxMs: UNUSED_AGE_MAX_MS,
  clock: systemClock,
};

/** In the temporary folder of the system, one for each user. */
function defaultCopiesFolder(): string {
  // The user may have no name, as in a container with a number that the image does not know.
  return join(tmpdir(), `qianmo-stores-${process.getuid?.() ?? 'user'}`);
}

/**
 * Registers this process as a user of the copy with this digest, which is empty at first, and removes
 * copies that are not wanted any more.
 *
 * @throws QianmoError `environment` if the folder of copies belongs to another user or cannot be written.
 */
export async function openStoreCopy(
  digest: string,
  copiesFolder = defaultCopiesFolder(),
  bounds = BOUNDS,
): Promise<StoreCopy> {
  const folder = join(copiesFolder, digest);
  const users = join(folder, USERS_FOLDER);
  let mark = users;
  try {
    await makePrivate(copiesFolder);
    await withFolderLock(copiesFolder, bounds.clock, async (workFolder) => {
      mark = join(users, basename(workFolder));
      await mkdir(users, { recursive: true });
      await writeFile(mark, JSON.stringify(thisProcess()));
      await removeUnwanted(copiesFolder, bounds);
    });
  } catch (cause) {
    throw systemFailure(cause, 'opening the copy of a task store', folder);
  }
  return {
    folder,
    close: async () => {
      // Leftovers are removed when the next copy is opened.
      await withFolderLock(copiesFolder, bounds.clock, async () => {
        await rm(mark, { force: true });
        await removeUnwanted(copiesFolder, bounds);
      }).catch(() => undefined);
    },
  };
}

async function makePrivate(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const found = await lstat(path);
  const uid = process.getuid?.();
  if (!found.isDirectory() || (uid !== undefined && found.uid !== uid))
    throw new QianmoError({
      kind: 'environment',
      what: 'the folder for copies of task stores belongs to someone else',
      where: path,
      cure: 'remove it, or set TMPDIR to a folder of your own',
    });
  if ((found.mode & 0o077) !== 0) await chmod(path, 0o700);
}

interface UnusedCopy {
  readonly folder: string;
  readonly byteCount: number;
  /** When the last mark of a user was set or removed. */
  readonly usedMs: number;
}

async function removeUnwanted(copiesFolder: string, bounds: CopyBounds): Promise<void> {
  const unused: UnusedCopy[] = [];
  for (const name of (await readdir(copiesFolder)).filter((each) => DIGEST.test(each))) {
    const copy = await unusedCopyIn(join(copiesFolder, name), bounds.clock);
    if (copy !== null) unused.push(copy);
  }
  let keptByteCount = 0;
  for (const copy of unused.sort((first, second) => second.usedMs - first.usedMs)) {
    const isOld = bounds.clock.epochMs() - copy.usedMs > bounds.unusedAgeMaxMs;
    if (isOld || keptByteCount + copy.byteCount > bounds.unusedByteCountMax)
      await removeFolder(copy.folder);
    else keptByteCount += copy.byteCount;
  }
}

/** Removes the marks of users that have ended. Null if there is another user. */
async function unusedCopyIn(folder: string, clock: Clock): Promise<UnusedCopy | null> {
  const users = join(folder, USERS_FOLDER);
  let userCount = 0;
  for (const name of await namesIn(users)) {
    const mark = join(users, name);
    if (await isUser(mark, clock)) userCount += 1;
    else await rm(mark, { force: true });
  }
  if (userCount > 0) return null;
  const byteCount = await removePartsAndMeasure(folder);
  const status = await stat(users).catch(() => null);
  return { folder, byteCount, usedMs: status?.mtimeMs ?? 0 };
}

async function isUser(mark: string, clock: Clock): Promise<boolean> {
  try {
    const identity = ProcessIdentitySchema.parse(JSON.parse(await readFile(mark, 'utf8')));
    const liveness = livenessOf(identity);
    if (liveness !== 'unknown') return liveness === 'runs';
    return clock.epochMs() - (await stat(mark)).mtimeMs < UNSEEN_USER_AGE_MAX_MS;
  } catch {
    return false;
  }
}

/** Removes files whose download was cut off, and returns the size of the others. */
async function removePartsAndMeasure(folder: string): Promise<number> {
  let byteCount = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    if (entry.name.endsWith(PART_SUFFIX)) await rm(path, { force: true });
    else byteCount += (await stat(path)).size;
  }
  return byteCount;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    if (systemCodeOf(cause) === 'ENOENT') return [];
    throw cause;
  }
}
