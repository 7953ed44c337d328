/**
 * The tables of every recorded page whose figures are kept as JSON are those that its bench writes from them, so that a
 * record can still be read, and its page has its figures. Seen to fail: a figure changed in one of them.
 */

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { digestsPage } from '../../digests/digests-page.js';
import { distributedPeersPage } from '../../bench/distributed-peers/distributed-peers-page.js';
import { comparisonMarkdown } from '../../bench/inner-loops/results-table.js';
import { marketPage, policiesPage } from '../../bench/market/market-page.js';
import { offPolicyPage } from '../../bench/off-policy/off-policy-page.js';
import { withText } from '../../bench/bench-header.js';
import { realPage } from '../../bench/real/real-page.js';
import { soakPage } from '../../soak/soak-page.js';

/** The result has the type that the page function takes, because its bench wrote the file from it. */
function recorded(name: string): never {
  return JSON.parse(readFileSync(`infra/results/${name}.json`, 'utf8')) as never;
}

test.each([
  ['digests', () => digestsPage(recorded('digests'))],
  ['inner-loops', () => comparisonMarkdown(recorded('inner-loops'))],
  ['market', () => marketPage(recorded('market')) + policiesPage(recorded('market-policies'))],
  ['ope', () => offPolicyPage(recorded('ope'))],
  ['real', () => realPage(recorded('real'))],
  ['soak', () => soakPage(recorded('soak'))],
  ['distributed-peers', () => distributedPeersPage(recorded('distributed-peers'))],
])('%s.md has the tables that its bench writes from its figures', (name, page) => {
  const rowsOf = (text: string): string[] => text.split('\n').filter((line) => /^\|/.test(line));
  const recordedRows = rowsOf(readFileSync(`infra/results/${name}.md`, 'utf8'));
  expect(rowsOf(page())).toEqual(recordedRows);
});

test('a text takes the place of that with its title in a page of several, or comes last', () => {
  const page = '# One\n\n| a |\n\n## Detail\n\n# Two\n\n| b |\n';
  expect(withText(page, '# One\n\n| c |\n')).toBe('# One\n\n| c |\n\n# Two\n\n| b |\n');
  expect(withText(page, '# Three\n')).toBe(`${page}\n# Three\n`);
  expect(withText('', '# One\n')).toBe('# One\n');
});
