/** `qianmo prepare`: turns logs into a task store. */

import { prepare } from '../../library/index.js';
import { callOptionsOf } from '../command/command-context.js';
import { format, runConfigArgument } from '../command/shared-options.js';
import { storeLines } from '../command/store-lines.js';
import { firstOf, flagOption, verb } from '../command/verb.js';

export const prepareVerb = verb({
  name: 'prepare',
  description: 'turn logs into a task store',
  argument: runConfigArgument,
  options: {
    force: flagOption(
      '--force',
      'prepare again even if the store was made from the same logs and config',
    ),
    format,
  },
  takesPlugins: true,
  help: '\nExample:\n  qianmo prepare infra/examples/movielens.yaml',
  run: async (operands, { force, format }, context) => {
    const prepared = await prepare({ config: firstOf(operands), force }, callOptionsOf(context));
    const { store, manifest } = prepared;
    context.print(
      format === 'json'
        ? JSON.stringify({ store, ...manifest, files: undefined })
        : storeLines(prepared),
    );
  },
});
