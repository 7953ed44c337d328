/** The tables of benches and checks name files and pages that exist, and every results page has an entry. */

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { BENCHES, CHECKS, RECORDED_SCRIPTS } from '../../bench/benches.js';

const all = [...BENCHES, ...CHECKS, ...RECORDED_SCRIPTS];

/** Pages that no entry writes. */
const WRITTEN = ['README.md'];

describe('the tables of benches', () => {
  test('have distinct names of one or two words, and modules that exist', () => {
    for (const table of [BENCHES, CHECKS]) {
      const names = table.map(({ name }) => name);
      expect(new Set(names).size).toBe(names.length);
      for (const name of names) expect(name).toMatch(/^[a-z-]+( [a-z-]+)?$/);
    }
    expect(all.filter(({ file }) => !existsSync(`test/${file}.ts`))).toEqual([]);
  });

  test('have an entry for every file of infra/results, and the index lists its pages', () => {
    const nameOf = (file: string): string => file.replace(/\.[a-z]+$/, '');
    const made = new Set([...all.flatMap(({ page }) => page ?? []), ...WRITTEN].map(nameOf));
    // A page of several benches has the figures of each in a file of its own, as `market-policies.json` for `market.md`.
    const pageOf = (file: string): string =>
      file.endsWith('.json') && !made.has(nameOf(file))
        ? nameOf(file).replace(/-[a-z]+$/, '')
        : nameOf(file);
    const unmade = readdirSync('infra/results').filter((file) => !made.has(pageOf(file)));
    expect(unmade).toEqual([]);
    const index = readFileSync('infra/results/README.md', 'utf8');
    const pages = readdirSync('infra/results').filter((file) => /^[a-z-]+\.md$/.test(file));
    expect(pages.filter((file) => !index.includes(`](${file})`))).toEqual([]);
  });
});
