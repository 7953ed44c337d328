/** The documentation site: every page has its place, links survive the move, and faults of a built site are found. */

import { describe, expect, test } from 'vitest';
import { faultsOf } from '../../../infra/site/built-site.js';
import { navigationOf } from '../../../infra/site/stage-site.js';
import { placeOf, stagedPage } from '../../../infra/site/staged-page.js';
import { pageAt } from '../../fixtures/documentation/markdown-page.js';
import { englishPages, englishPath } from '../../fixtures/documentation/page-list.js';

function staged(path: string, source: string, below = ''): string {
  const isFile = (file: string): boolean => file.endsWith('.yaml') || file.endsWith('.svg');
  return stagedPage(path, source, { isFile, base: '/q/', below }).text;
}

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

describe('a staged page', () => {
  test('keeps links between pages of the site', () => {
    expect(staged('infra/docs/auto/auto.md', '[a](../own-logs.md#b) [c](#d) [e](https://f)')).toBe(
      '[a](../own-logs.md#b) [c](#d) [e](https://f)',
    );
  });

  test('has its links follow pages that the site moves', () => {
    const links = '[a](../decisions/0001-x.md) [b](../../README.md) [c](../results/README.md)';
    expect(staged('infra/docs/results.md', links)).toBe(
      '[a](./decisions/0001-x.md) [b](./readme.md) [c](./results/index.md)',
    );
    expect(placeOf('infra/docs/zh/README.md')).toBe('zh/index.md');
  });

  test('links to a copy of a file and names other paths', () => {
    expect(staged('infra/docs/a.md', '[`run.yaml`](../examples/run.yaml)')).toBe(
      '<a href="/q/files/infra/examples/run.yaml" target="_self"><code>run.yaml</code></a>',
    );
    expect(staged('README.md', 'in [shared/methods](shared/methods), or [there](worker)')).toBe(
      'in shared/methods, or there (`worker`)',
    );
  });

  test('shows a picture in the colours of the theme', () => {
    const picture =
      '<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="p/d.svg">\n' +
      '  <img alt="A task" src="p/l.svg">\n</picture>';
    expect(staged('infra/docs/a.md', picture)).toBe(
      `<img class="shown-in-light" alt="A task" :src="'/q/files/infra/docs/p/l.svg'">\n` +
        `<img class="shown-in-dark" alt="A task" :src="'/q/files/infra/docs/p/d.svg'">`,
    );
  });

  test('leaves code as it is', () => {
    const code = '```md\n[a](../decisions/0001-x.md)\n```';
    expect(staged('infra/docs/a.md', code)).toBe(code);
  });

  test('links to translated pages where it stands in for one, and to anchors of originals', () => {
    expect(
      staged('infra/docs/auto/auto.md', '[a](../own-logs.md) [b](../own-logs.md#c)', 'zh/'),
    ).toBe('[a](../own-logs.md) [b](../../own-logs.md#c)');
  });
});

describe('a built site', () => {
  const page = (text: string): string[] =>
    faultsOf(
      [
        { path: 'zh/a.html', text },
        { path: 'b.html', text: '<h2 id="数据">' },
        { path: 'index.html', text: '' },
      ],
      '/q/',
    );

  test.each([
    '<a href="/q/b.html#%E6%95%B0%E6%8D%AE">',
    '<a href="../b.html">',
    '<a href="../">',
    '<a href="/q/">',
    '<a href="https://arxiv.org/abs/1">',
    '<a href="#">',
  ])('may have %s', (text) => {
    expect(page(text)).toEqual([]);
  });

  test.each([
    ['<a href="../c.html">', 'zh/a.html links to ../c.html, which is not there'],
    ['<a class="x" href="/q/b.html#x">', 'zh/a.html links to /q/b.html#x, which is not there'],
    ['<img src="/q/p.svg">', 'zh/a.html links to /q/p.svg, which is not there'],
    ['<script src="https://cdn.x/y.js">', 'zh/a.html fetches https://cdn.x/y.js'],
    ['<link rel="preconnect" href="//fonts.x">', 'zh/a.html fetches //fonts.x'],
    ['<style>a { background: url(https://x/y.png) }', 'zh/a.html fetches https://x/y.png'],
  ])('must not have %s', (text, fault) => {
    expect(page(text)).toEqual([fault]);
  });
});
