/** Keeps compiled code from process to process, where Node can: from version 22.8 on. */

import module from 'node:module';
import { cacheFolder } from './cache-folder.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Called by the entry of a process, before it loads what takes long. */
export function keepCompiledCode(environment: Environment): void {
  const folder = cacheFolder(environment, 'compiled');
  if (folder === null || !hasCompileCache(module)) return;
  // A cache that cannot be used is told in the result, which is of no interest.
  module.enableCompileCache(folder);
}

/** The type of the oldest supported Node lacks the function. */
function hasCompileCache(
  loader: object,
): loader is { readonly enableCompileCache: (folder: string) => unknown } {
  return 'enableCompileCache' in loader;
}
