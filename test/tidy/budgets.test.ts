// The size of the house. A budget only falls: a commit that removes something lowers it, and one that raises it names the
// user who needs that.

import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { EVENT_KINDS } from '../../shared/events/event-kinds.js';
import { exportedNames, files, sources } from './sources.js';

/** A budget is at most this share above what it bounds, so that it follows each removal. */
const SLACK_SHARE_MAX = 0.01;

const code = files.filter((path) => /\.(ts|mts|mjs|cc|h|py|css)$/.test(path));
const production = code.filter((path) => !path.startsWith('test/'));
const PackageSchema = z.looseObject({ scripts: z.record(z.string(), z.string()) });

function linesBelow(folder: string): number {
  return code
    .filter((path) => path.startsWith(`${folder}/`))
    .reduce((sum, path) => sum + readFileSync(path, 'utf8').split('\n').length - 1, 0);
}

function exportedCount(): number {
  return sources
    .filter(({ path }) => !path.startsWith('test/'))
    .reduce((sum, { text }) => sum + exportedNames(text).length, 0);
}

/** Rows of tables in the reference, which is generated from the schemas. */
function configurationRowCount(): number {
  const lines = readFileSync('infra/docs/configuration.md', 'utf8').split('\n');
  return lines.filter((line) => /^\| (<a id="[^"]+"><\/a>)?`/.test(line)).length;
}

function documentKilobytes(): number {
  const pages = files.filter((path) => /^infra\/docs\/.*\.md$/.test(path));
  return Math.ceil(pages.reduce((sum, path) => sum + readFileSync(path).byteLength, 0) / 1024);
}

const filesIn = (folder: string): number =>
  files.filter((path) => dirname(path) === folder && path.endsWith('.md')).length;

test.each([
  ['lines of coordinator', () => linesBelow('coordinator'), 38_924],
  ['lines of shared', () => linesBelow('shared'), 23_167],
  ['lines of worker', () => linesBelow('worker'), 25_030],
  ['lines of infra', () => linesBelow('infra'), 12_258],
  ['lines of test', () => linesBelow('test'), 74_978],
  ['source files', () => production.length, 457],
  ['source folders', () => new Set(production.map(dirname)).size, 64],
  ['exported names', exportedCount, 2_255],
  ['rows of configuration', configurationRowCount, 220],
  ['kinds of events', () => Object.keys(EVENT_KINDS).length, 58],
  ['KB of documentation', documentKilobytes, 520],
  ['decision records', () => filesIn('infra/decisions'), 30],
  ['pages of results', () => filesIn('infra/results'), 21],
  [
    'npm scripts',
    () =>
      Object.keys(PackageSchema.parse(JSON.parse(readFileSync('package.json', 'utf8'))).scripts)
        .length,
    18,
  ],
])('%s stay within their budget', (_name, measure, budget) => {
  const found = measure();
  expect(found).toBeLessThanOrEqual(budget);
  expect(budget).toBeLessThanOrEqual(Math.ceil(found * (1 + SLACK_SHARE_MAX)));
});
