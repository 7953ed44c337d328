/** `qianmo setup`: obtains what this machine lacks, and tries again what an earlier set-up left out. */

import { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';
import { BootstrapError } from '../../bootstrap/progress.mjs';
import { setUp } from '../../bootstrap/setup.mjs';
import type { CommandContext } from '../command-context.js';
import { parsedOptions } from '../usage-failure.js';

const OptionsSchema = z.object({ gpu: z.boolean().default(false) });

export async function setupVerb(rawOptions: unknown, context: CommandContext): Promise<void> {
  const { gpu } = parsedOptions(OptionsSchema, rawOptions, 'setup');
  try {
    await setUp({ retry: true, gpu });
  } catch (error) {
    if (!(error instanceof BootstrapError)) throw error;
    throw new QianmoError({
      kind: 'environment',
      what: 'the set-up failed',
      found: error.message,
      cure: error.cure.join('\n'),
    });
  }
  context.print('ready: qianmo demo, or qianmo --help');
}
