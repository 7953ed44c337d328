/** The fingerprint of a log covers all its bytes, so that a corrected log gives another store. */

import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { fingerprintOf } from '../../../coordinator/logs/log-files.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

it('distinguishes large files that differ in one byte anywhere', async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => folder.remove());
    const path = join(folder.path, 'log.csv');
    const file = await open(path, 'w');
    await file.truncate(65 * 1024 * 1024);
    const signal = new AbortController().signal;
    const fingerprint = (): Promise<string> => fingerprintOf({ path, name: 'log.csv' }, signal);
    const found = [await fingerprint(), await fingerprint()];
    for (const offset of [10 * 1024 * 1024, 65 * 1024 * 1024 - 1]) {
      await file.write('1', offset);
      found.push(await fingerprint());
    }
    await file.close();
    expect(found[0]).toBe(found[1]);
    expect(new Set(found).size).toBe(3);
});
