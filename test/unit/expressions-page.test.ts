import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FUNCTION_NAMES } from '../../shared/features/expressions/bind-expression.js';

test('the page of expressions names every function of the subset', () => {
  const page = readFileSync(new URL('../../infra/docs/expressions.md', import.meta.url), 'utf8');
  const missing = FUNCTION_NAMES.filter((name) => !new RegExp(`\`${name}[\`(]`).test(page));
  expect(missing).toEqual([]);
});
