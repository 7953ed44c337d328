/** The folder of the package, found from the sources and from `dist/` alike. */

import { existsSync } from 'node:fs';

export const packageRoot: URL = (() => {
  let folder = new URL('.', import.meta.url);
  while (!existsSync(new URL('package.json', folder))) folder = new URL('..', folder);
  return folder;
})();
