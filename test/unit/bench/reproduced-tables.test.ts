// Every file of figures in infra/results is made by a command, or is prose that says where its figures are from.

import { readFileSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { TABLES } from '../../bench/reproduced-tables.js';

const manifest = z
  .looseObject({ scripts: z.record(z.string(), z.string()) })
  .parse(JSON.parse(readFileSync('package.json', 'utf8')));

/** Prose with figures of several commits or of other programs; each says where they are from. */
const WRITTEN = [
  'README.md',
  'main-job.md',
  'inner-loops-notes.md',
  'dbook-notes.md',
  'meta-embedding-notes.md',
  'movielens-protocols-notes.md',
];

test.each(TABLES)('$name is made by a script of package.json', ({ script }) => {
  expect(Object.keys(manifest.scripts)).toContain(script);
});

test('every file kept is made by a command, or named as written', () => {
  const made = new Set([...TABLES.map(({ makes }) => makes.replace(/\.[a-z]+$/, '')), ...WRITTEN]);
  const kept = readdirSync('infra/results', { withFileTypes: true });
  const unmade = kept.filter(
    ({ name }) => !made.has(name) && !made.has(name.replace(/\.[a-z]+$/, '')),
  );
  expect(unmade.map(({ name }) => name)).toEqual([]);
});
