// Temporary folders that belong to one process. Only its user can read them. A process that is killed
// leaves its folder behind; the next one that opens a folder of the same kind removes it.
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const OWNER_FILE = 'owner.json';

/**
 * @param {string} kind the first part of the folder's name: `qianmo-redis`
 * @param {string} [parent]
 * @returns {string} the path of an empty folder, with the rights 0700
 */
export function openOwnedFolder(kind, parent = tmpdir()) {
  removeOrphans(kind, parent);
  const folder = mkdtempSync(join(parent, `${kind}-`));
  writeFileSync(join(folder, OWNER_FILE), JSON.stringify(identityOf('self')), { mode: 0o600 });
  return folder;
}

/**
 * Removes the folders whose owner is dead.
 * @param {string} kind
 * @param {string} parent
 */
function removeOrphans(kind, parent) {
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(`${kind}-`)) continue;
    const folder = join(parent, name);
    try {
      const owner = JSON.parse(readFileSync(join(folder, OWNER_FILE), 'utf8'));
      if (isDead(owner)) rmSync(folder, { recursive: true, force: true });
    } catch {
      // The folder of another user, one that is being made, or one that somebody else removes.
    }
  }
}

/**
 * A process of another machine or of another container cannot be seen from here, so it counts as alive.
 * @param {ReturnType<typeof identityOf>} owner
 */
function isDead(owner) {
  const own = identityOf('self');
  if (owner.bootId === '' || owner.pidNamespace !== own.pidNamespace) return false;
  if (owner.bootId !== own.bootId) return true;
  const present = identityOf(String(owner.pid));
  return present.startTicks !== owner.startTicks;
}

/**
 * A process id is used again, so the time at which its process began belongs to its identity.
 * @param {string} process `self`, or a process id
 */
function identityOf(process) {
  const stat = textOf(() => readFileSync(`/proc/${process}/stat`, 'utf8'));
  // The name of the program stands in brackets and may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    pid: Number.parseInt(stat, 10),
    startTicks: fields[19] ?? '',
    pidNamespace: textOf(() => readlinkSync('/proc/self/ns/pid')),
    bootId: textOf(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
  };
}

/**
 * @param {() => string} read
 * @returns {string} empty when it cannot be read
 */
function textOf(read) {
  try {
    return read();
  } catch {
    return '';
  }
}
