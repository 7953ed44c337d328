/** Results pages state their commit, and say which changes of their figures they are older than. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../infra/library/package-root.js';
import { marksOf, MOVED_FIGURES, statedCommits } from '../bench/results/moved-figures.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;
const pages = readdirSync(RESULTS).filter((name) => name.endsWith('.md'));
const textOf = (name: string): string => readFileSync(join(RESULTS, name), 'utf8');

/** Pages without a commit of their own, and why. */
const WITHOUT_COMMIT: Readonly<Record<string, string>> = {
  'README.md': 'the list of the pages',
  'movielens-protocols-notes.md': 'it reads movielens-protocols.md',
};

describe('results pages', () => {
  it.each(pages)('%s states its commit', (name) => {
    expect(statedCommits(textOf(name)).length > 0).toBe(!Object.hasOwn(WITHOUT_COMMIT, name));
  });

  it.each(pages)('%s says which changes of its figures it is older than', (name) => {
    const text = textOf(name);
    const marked = text.split('\n').filter((line) => line.startsWith('> Figures of commit '));
    expect(marked).toEqual(marksOf(name, text));
  });

  it('of the list are there', () => {
    for (const { pages: moved } of MOVED_FIGURES)
      for (const name of Object.keys(moved)) expect(pages).toContain(name);
  });
});

describe('the marks of a page', () => {
  const page = (commit: string): string => `# Title\n\nCommit ${commit}, 2026-11-24, 2 cores.\n`;

  it('name each change that the page is older than, and no other', () => {
    expect(marksOf('traffic.md', page('6afc234'))).toEqual([
      '> Figures of commit 6afc234 are older than `e0e78222`, which renews the lifetime of a blob in the round trip that reads it.',
    ]);
    expect(marksOf('traffic.md', page('1234abc'))).toEqual([]);
    expect(marksOf('start.md', page('6afc234'))).toEqual([]);
  });

  it('name the commits that are old, of several', () => {
    const two = `${page('41ec62a5')}${page('18610c19')}${page('1234abcd')}`;
    const marks = marksOf('real.md', two);
    expect(marks[0]).toMatch(/^> Figures of commit 41ec62a5 are older/);
    expect(marks).toContainEqual(
      expect.stringMatching(
        /^> Figures of commit 41ec62a5, commit 18610c19 are older than `9eb2e48a`/,
      ),
    );
    expect(marks.filter((mark) => mark.includes('1234abcd'))).toEqual([]);
  });
});
