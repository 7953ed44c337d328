// Every table that is kept can be made again by a command that is there.

import { readFileSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { TABLES } from '../bench/reproduced-tables.js';

const manifest = z
  .looseObject({ scripts: z.record(z.string(), z.string()) })
  .parse(JSON.parse(readFileSync('package.json', 'utf8')));

/** Written by hand from commands that they name. */
const WRITTEN = [
  'README.md',
  'main-job.md',
  'inner-loops-notes.md',
  'dbook-notes.md',
  'meta-embedding-notes.md',
  'movielens-protocols.md',
];

test.each(TABLES)('$name is made by a script of package.json', ({ script }) => {
  expect(Object.keys(manifest.scripts)).toContain(script);
});

test('every table kept is listed', () => {
  const kept = readdirSync('infra/results').filter((name) => name.endsWith('.md'));
  const made = new Set([...TABLES.map(({ makes }) => makes), ...WRITTEN]);
  expect(kept.filter((name) => !made.has(name))).toEqual([]);
});
