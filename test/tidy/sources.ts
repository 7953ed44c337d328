/** The checked-in sources and their imports, as read by the tests of this folder. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

export interface Source {
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
    .map((imported) => fileOf(path, imported));
}

/** The names that a file declares with `export`. */
export function exportedNames(text: string): string[] {
  const found = text.matchAll(
    /^export\s+(?:abstract\s+|async\s+)*(?:function\*?|class|const|let|interface|type|enum)\s+(\w+)/gm,
  );
  return [...found].flatMap((match) => (match[1] === undefined ? [] : [match[1]]));
}

/** Each name that the given files import or pass on, as `path name`, and `path *` for a whole file. */
export function importedNames(importers: readonly Source[]): Set<string> {
  const imported = new Set<string>();
  for (const { path, text } of importers) {
    const froms = text.matchAll(/\b(?:import|export)\s+([^;'"]*?)\s*from\s*['"]([^'"]+)['"]/g);
    for (const [, names = '', from = ''] of froms)
      for (const name of namesOf(names)) imported.add(`${fileOf(path, from)} ${name}`);
    for (const [, from = ''] of text.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*,?\s*\)/g))
      imported.add(`${fileOf(path, from)} *`);
  }
  return imported;
}

/** The names in `{ a, type B, c as d }`, or `*`. */
function namesOf(clause: string): string[] {
  if (clause.includes('*')) return ['*'];
  return clause
    .replace(/^type\s+/, '')
    .replace(/[{}]/g, '')
    .split(',')
    .map((part) => part.trim().replace(/^type\s+/, ''))
    .map((part) => part.replace(/\s+as\s+\w+$/, ''));
}

function fileOf(importer: string, imported: string): string {
  if (/^#(bootstrap|services)\//.test(imported)) return imported.replace('#', 'infra/');
  return normalize(join(dirname(importer), imported)).replace(/\.js$/, '.ts');
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
