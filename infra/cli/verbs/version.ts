/** `qianmo version`: prints the version of the package. */

import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { packageRoot } from '../../library/package-root.js';
import { format } from '../command/shared-options.js';
import { verb } from '../command/verb.js';

const PackageSchema = z.object({ version: z.string() });

export const versionVerb = verb({
  name: 'version',
  description: 'print the version of qianmo',
  options: { format },
  help: '\nExample:\n  qianmo version',
  run: async (_operands, { format }, context) => {
    const text = await readFile(new URL('package.json', packageRoot), 'utf8');
    const { version } = PackageSchema.parse(JSON.parse(text));
    context.print(format === 'json' ? JSON.stringify({ version }) : `qianmo ${version}`);
  },
});
