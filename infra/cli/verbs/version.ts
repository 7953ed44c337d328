/** `qianmo version`. */

import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { CommandContext } from '../command-context.js';
import { packageRoot } from '../package-root.js';

export async function versionVerb(context: CommandContext): Promise<void> {
  const text = await readFile(new URL('package.json', packageRoot), 'utf8');
  context.print(`qianmo ${z.object({ version: z.string() }).parse(JSON.parse(text)).version}`);
}
