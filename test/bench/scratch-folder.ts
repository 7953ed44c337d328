/** A folder of a bench or a check, which is removed when its process ends, however it does. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export function scratchFolder(name: string, within = tmpdir()): string {
  const folder = mkdtempSync(join(within, `qianmo-${name}-`));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
