/** The checked-in sources and their imports, as read by the tests of this folder. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

interface Source {
  readonly path: string;
  readonly text: string;
}

/** Every file that is tracked, or new and not ignored. */
export const files = execFileSync(
  'git',
  ['ls-files', '--cached', '--others', '--exclude-standard'],
  {
    encoding: 'utf8',
  },
)
  .split('\n')
  .filter((path) => path !== '' && isThere(path));

export const sources: readonly Source[] = files
  .filter((path) => /\.(ts|mts|mjs)$/.test(path))
  .map((path) => ({ path, text: readFileSync(path, 'utf8') }));

export const production = sources.filter(({ path }) => /^(shared|coordinator|worker)\//.test(path));

export function importsOf(text: string): string[] {
  const found = text.matchAll(/(?:from|import\(|import)\s*['"]([^'"]+)['"]/g);
  return [...found].flatMap((match) => (match[1] === undefined ? [] : [match[1]]));
}

/** Files of this repository that a file imports. */
export function importedFiles({ path, text }: Source): string[] {
  return importsOf(text)
    .filter((imported) => imported.startsWith('.'))
    .map((imported) => normalize(join(dirname(path), imported)).replace(/\.js$/, '.ts'));
}

/** Each cycle once, as `a -> b -> a`. */
export function cyclesOf(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const cycles: string[] = [];
  const finished = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      cycles.push([...trail.slice(start), path].join(' -> '));
      return;
    }
    if (finished.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    finished.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return cycles;
}

function isThere(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}
