/** `qianmo setup`: installs what this machine lacks, and tries again what an earlier setup left out. */

import { QianmoError } from '../../../shared/base/errors.js';
import { flagOption, verb } from '../command/verb.js';

export const setupVerb = verb({
  name: 'setup',
  description: 'install what this machine lacks: native TensorFlow and a Redis server',
  options: { gpu: flagOption('--gpu', 'TensorFlow with CUDA 12, 3.3 GB of downloads') },
  help: `
The first use of any verb does this by itself; this verb tries again what failed then.

Example:
  qianmo setup --gpu`,
  run: async (_operands, { gpu }, context) => {
    const { setUp } = await import('../../bootstrap/setup.mjs');
    const { BootstrapError } = await import('../../bootstrap/base/progress.mjs');
    try {
      await setUp({ retry: true, gpu });
    } catch (error) {
      if (!(error instanceof BootstrapError)) throw error;
      throw new QianmoError({
        kind: 'environment',
        what: 'the setup failed',
        found: error.message,
        cure: error.cure.join('\n'),
      });
    }
    context.print('ready: qianmo demo, or qianmo --help');
  },
});
