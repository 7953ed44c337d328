/** Where processes of this user keep what can be made again. */

import module from 'node:module';
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Rights of others to write. */
const WRITABLE_BY_OTHERS = 0o022;

/**
 * `$XDG_CACHE_HOME/qianmo/NAME`, or below `~/.cache`. Null where there is no such folder, or where another
 * user could write into it.
 */
export function cacheFolder(
  { XDG_CACHE_HOME: configured, HOME: home }: Readonly<Record<string, string | undefined>>,
  name: string,
): string | null {
  const root = configured || (home === undefined || home === '' ? '' : join(home, '.cache'));
  if (root === '') return null;
  const folder = join(root, 'qianmo', name);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid, mode } = statSync(folder);
    return uid === process.getuid?.() && (mode & WRITABLE_BY_OTHERS) === 0 ? folder : null;
  } catch {
    return null;
  }
}

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
