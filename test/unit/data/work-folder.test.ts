/** Temporary folders of work, and those that killed work has left. */

import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { withWorkFolder } from '../../../coordinator/logs/work-folder.js';
import { thisProcess } from '../../../shared/storage/process-identity.js';
import { openedForEach } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const parent = openedForEach(temporaryFolder);

const self = thisProcess();
/** Its number is in use again. */
const ended = { ...self, startTicks: '1' };

async function folderOf(name: string, owner: object | null): Promise<void> {
  await mkdir(join(parent.path, name, 'spill'), { recursive: true });
  if (owner !== null) await writeFile(join(parent.path, name, 'owner.json'), JSON.stringify(owner));
}

test.each([
  ['whose process has ended', 'qianmo-append-1', ended, false],
  ['that a machine of the same name may use', 'qianmo-ope-1', { ...self, boot: 'other' }, true],
  ['of this process', 'qianmo-prepare-1', self, true],
  ['of another machine', 'qianmo-prepare-1', { ...ended, host: 'other', boot: 'other' }, true],
  ['of another container', 'qianmo-ope-1', { ...ended, pidNamespace: 'pid:[1]' }, true],
  ['that is being made', 'qianmo-prepare-1', null, true],
  ['of other work', 'qianmo-redis-1', ended, true],
])('of others: one %s', async (_, name, owner, stays) => {
  await folderOf(name, owner);
  const during = await withWorkFolder('prepare', parent.path, () => readdir(parent.path));
  expect(during.includes(name)).toBe(stays);
  expect(await readdir(parent.path)).toEqual(stays ? [name] : []);
});
