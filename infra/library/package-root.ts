/** The package: its folder, found from the sources and from `dist/` alike, and its version. */

import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';

export const packageRoot: URL = (() => {
  let folder = new URL('.', import.meta.url);
  while (!existsSync(new URL('package.json', folder))) folder = new URL('..', folder);
  return folder;
})();

const PackageSchema = z.object({ version: z.string() });

export function packageVersion(): string {
  const text = readFileSync(new URL('package.json', packageRoot), 'utf8');
  return PackageSchema.parse(JSON.parse(text)).version;
}
