/** The package: its folder, found from the sources and from `dist/` alike, and its version. */

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

export const packageRoot: URL = (() => {
  let folder = new URL('.', import.meta.url);
  while (!existsSync(new URL('package.json', folder))) folder = new URL('..', folder);
  return folder;
})();

/** The JSON Schema of run configs, for editors. */
export function configSchemaPath(): string {
  return fileURLToPath(new URL('infra/examples/run.schema.json', packageRoot));
}

const PackageSchema = z.object({ version: z.string() });

export function packageVersion(): string {
  const text = readFileSync(new URL('package.json', packageRoot), 'utf8');
  return PackageSchema.parse(JSON.parse(text)).version;
}
