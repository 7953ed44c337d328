/** `qianmo version`: prints the version of the package. */

import { packageVersion } from '../../library/package-root.js';
import { format } from '../command/shared-options.js';
import { verb } from '../command/verb.js';

export const versionVerb = verb({
  name: 'version',
  description: 'print the version of qianmo',
  options: { format },
  help: '\nExample:\n  qianmo version',
  run: (_operands, { format }, context) => {
    const version = packageVersion();
    context.print(format === 'json' ? JSON.stringify({ version }) : `qianmo ${version}`);
    return Promise.resolve();
  },
});
