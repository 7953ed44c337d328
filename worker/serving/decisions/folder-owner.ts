/** The one process that writes the state in a folder. What it leaves when it is killed is taken over. */

import { readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
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

/**
 * @returns what gives the folder back.
 * @throws QianmoError `usage` while another process has it.
 */
export async function ownFolder(folder: string, clock: Clock): Promise<() => Promise<void>> {
  const path = join(folder, 'owner.json');
  try {
    await makeFolderDurably(folder);
    // Of several processes that find a dead owner, one takes its place.
    await withFolderLock(folder, clock, async () => {
      const other = await ownerIn(path);
      if (other !== null && livenessOf(other) !== 'ended') throw owned(folder, other);
      await replaceDurably(path, Buffer.from(JSON.stringify(thisProcess())));
    });
  } catch (cause) {
    throw systemFailure(cause, 'taking the folder of the state', folder);
  }
  return () => unlink(path).catch(() => undefined);
}

/** Null without a legible one. */
async function ownerIn(path: string): Promise<ProcessIdentity | null> {
  try {
    return ProcessIdentitySchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    if (systemCodeOf(cause) === null || systemCodeOf(cause) === 'ENOENT') return null;
    throw cause;
  }
}

function owned(folder: string, { host, pid }: ProcessIdentity): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'another process keeps its state in this folder',
    where: folder,
    found: `process ${pid} of ${host}`,
    cure: 'give another --state, or --redis to share the evidence; remove owner.json if that process is gone',
  });
}
