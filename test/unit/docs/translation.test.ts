/** Chinese pages are in step with the English ones: the same headings, code blocks, tables and pictures. */

import { describe, expect, test } from 'vitest';
import { pageAt, tableWidths, type Page } from '../../fixtures/documentation/markdown-page.js';
import {
  chinesePages,
  chinesePath,
  englishPages,
  englishPath,
} from '../../fixtures/documentation/page-list.js';

/** English pages without a Chinese one. The list may only shrink: a page that is translated is removed from it. */
const NOT_YET_TRANSLATED: readonly string[] = ['configuration.md', 'options.md'];

/** The levels of the headings in order, such as `# ## ### ##`. */
function headingLevels({ prose }: Page): string {
  return [...prose.matchAll(/^(#+) /gm)].map((match) => match[1] ?? '').join(' ');
}

/** Every code block with its language. */
function fencedBlocks({ text }: Page): string[] {
  return [...text.matchAll(/^```[\s\S]*?^```/gm)].map((match) => match[0]);
}

/** The number of columns of each table. */
function tableColumns(page: Page): (number | undefined)[] {
  return tableWidths(page).map((widths) => widths[0]);
}

/** File names of the pictures in order; a translated drawing has the suffix `-zh`. */
function pictures({ prose }: Page): string[] {
  return [...prose.matchAll(/(?:src|srcset)="[^"]*?([\w-]+\.\w+)"/g)].map((match) =>
    (match[1] ?? '').replace('-zh', ''),
  );
}

describe('translation', () => {
  test('a page that is translated has left the list of those that are not', () => {
    const untranslated = englishPages.filter((page) => !chinesePages.includes(page));
    expect(untranslated).toEqual([...NOT_YET_TRANSLATED].sort());
  });

  test('every Chinese page has an English one', () => {
    expect(chinesePages.filter((page) => !englishPages.includes(page))).toEqual([]);
  });
});

describe.each(chinesePages)('zh/%s', (name) => {
  const english = pageAt(englishPath(name));
  const chinese = pageAt(chinesePath(name));

  test('has the headings of the English page, level by level', () => {
    expect(headingLevels(chinese)).toBe(headingLevels(english));
  });

  test('has the code blocks of the English page, to the letter', () => {
    expect(fencedBlocks(chinese)).toEqual(fencedBlocks(english));
  });

  test('has tables with the columns of the English ones', () => {
    expect(tableColumns(chinese)).toEqual(tableColumns(english));
  });

  test('has the pictures of the English page', () => {
    expect(pictures(chinese)).toEqual(pictures(english));
  });
});
