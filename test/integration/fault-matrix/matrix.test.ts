/** The table of the fault matrix: it is large enough, its tests exist, and its page is up to date. */

import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CELLS, CELLS_ELSEWHERE, NOT_COVERED } from './matrix.js';

const PAGE = '../../../infra/docs/fault-matrix.md';
const FOLDER = 'test/integration/fault-matrix';
const CELL_COUNT_MIN = 25;

test('the table has enough cells, each once', () => {
  const names = CELLS.map(({ fault, phase }) => `${fault}, ${phase}`);
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThanOrEqual(CELL_COUNT_MIN);
});

test('the file of each cell is there and runs the whole of its part', () => {
  for (const file of new Set(CELLS.map((cell) => cell.file)))
    expect(readFileSync(`${FOLDER}/${file}`, 'utf8')).toContain('cells.complete();');
});

test.each(CELLS_ELSEWHERE)('$file has "$title"', ({ file, title }) => {
  expect(existsSync(file)).toBe(true);
  expect(readFileSync(file, 'utf8')).toContain(title);
});

test('the page is up to date (vitest -u writes it)', async () => {
  const rows = [
    ...CELLS.map((cell) => ({ ...cell, file: `${FOLDER}/${cell.file}` })),
    ...CELLS_ELSEWHERE,
  ];
  const page = [
    '# Fault matrix',
    '',
    'Each fault strikes a run with real processes, in the phase that is named. The run then ends with the digest of an',
    'undisturbed run, bit for bit, or as the table says. CI runs every row.',
    '',
    '<!-- Written by vitest -u from test/integration/fault-matrix/matrix.ts; do not edit it by hand. -->',
    '',
    '| fault | phase | outcome | test |',
    '|---|---|---|---|',
    ...rows.map(
      ({ fault, phase, outcome, file }) =>
        `| ${fault} | ${phase} | ${outcome} | \`${file.replace('test/integration/', '')}\` |`,
    ),
    '',
    'In tests of the results, the loop of the worker is in the process of the test, which changes what it hands in; coordinator,',
    'Redis and compute process are processes of their own. `qianmo simulate` covers more faults and their combinations, with simulated processes (decision 0029).',
    '',
    '## Not covered',
    '',
    ...NOT_COVERED.map((sentence) => `- ${sentence}`),
    '',
  ].join('\n');
  await expect(page).toMatchFileSnapshot(PAGE);
});
