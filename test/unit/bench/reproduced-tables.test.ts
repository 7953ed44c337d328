// Every results file in infra/results is produced by a command, or is prose that names its sources.

import { readFileSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { TABLES } from '../../bench/reproduce/reproduced-tables.js';

const manifest = z
  .looseObject({ scripts: z.record(z.string(), z.string()) })
  .parse(JSON.parse(readFileSync('package.json', 'utf8')));

/** Prose with figures from several commits or from other programs. Each file names its sources. */
const WRITTEN = [
  'README.md',
  'learned-rule.md',
  'main-job.md',
  'inner-loops-notes.md',
  'dbook-notes.md',
  'meta-embedding-notes.md',
  'movielens-protocols-notes.md',
  'real-notes.md',
  'browser.md',
  'reproduced.md',
];

test.each(TABLES)('$name is produced by a script of package.json', ({ script }) => {
  expect(Object.keys(manifest.scripts)).toContain(script);
});

test('every results file is produced by a command or listed as prose', () => {
  const made = new Set([...TABLES.map(({ makes }) => makes.replace(/\.[a-z]+$/, '')), ...WRITTEN]);
  const kept = readdirSync('infra/results', { withFileTypes: true });
  const unmade = kept.filter(
    ({ name }) => !made.has(name) && !made.has(name.replace(/\.[a-z]+$/, '')),
  );
  expect(unmade.map(({ name }) => name)).toEqual([]);
});
