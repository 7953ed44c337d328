// Every field of every config has a description, so the configuration reference has no empty cell.

import { expect, test } from 'vitest';
import { configReference } from '../../../infra/cli/write-reference.js';

/** Settings of methods are described in the files of the methods. */
const METHODS = /### method\n[^]*?(?=\n### )/;

test('every field outside the methods has a description', () => {
  const rows = configReference()
    .replace(METHODS, '')
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  expect(rows.length).toBeGreaterThan(150);
  expect(rows.filter((row) => row.endsWith('|  |'))).toEqual([]);
});
