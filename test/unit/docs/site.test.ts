/** The documentation site: every page has its place. */

import { describe, expect, test } from 'vitest';
import { navigationOf } from '../../../infra/site/stage-site.js';
import { pageAt } from '../../fixtures/documentation/markdown-page.js';
import { englishPages, englishPath } from '../../fixtures/documentation/page-list.js';

describe('navigation', () => {
  test('has every page once, in both languages', () => {
    for (const [language, below] of [
      ['en', '/'],
      ['zh', '/zh/'],
    ] as const) {
      const { sidebar } = navigationOf(language, () => 'Heading');
      const links = sidebar.flatMap(({ items }) => items.map(({ link }) => link));
      const pages = englishPages
        .filter((page) => page !== 'README.md')
        .map((page) => `${below}${page.replace('.md', '')}`);
      expect(links.filter((link) => !/^\/(results|decisions)\/$/.test(link)).sort()).toEqual(
        pages.sort(),
      );
    }
  });

  test('has the sections and the order of the index', () => {
    const index = pageAt(englishPath('README.md')).prose;
    const { sidebar } = navigationOf('en', () => 'Heading');
    const headings = [...index.matchAll(/^## (.*)$/gm)].map((match) => match[1]);
    expect(headings).toEqual(sidebar.map(({ text }) => text));
    const rows = [...index.matchAll(/^\| \[[^\]]*\]\(([^)]*)\.md\)/gm)].map((match) => match[1]);
    const links = sidebar.flatMap(({ items }) => items.map(({ link }) => link.slice(1)));
    expect(rows).toEqual(links.filter((link) => !link.endsWith('/')));
  });

  test('names a translated page by its own heading, any other by the English one', () => {
    const headings: Record<string, string> = { 'zh/concepts.md': '概念', 'results.md': 'Results' };
    const { sidebar } = navigationOf('zh', (page) => headings[page] ?? null);
    const texts = sidebar.flatMap(({ items }) => items.map(({ text }) => text));
    expect(texts).toEqual(expect.arrayContaining(['概念', 'Results']));
  });
});
