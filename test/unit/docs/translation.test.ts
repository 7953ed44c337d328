/**
 * Chinese pages are in step with the English ones: the same headings, code blocks, tables, figures and pictures, of the
 * version that they say they translate.
 */

import { describe, expect, test } from 'vitest';
import { pageAt, tableWidths, type Page } from '../../fixtures/documentation/markdown-page.js';
import {
  chinesePages,
  englishPages,
  translations,
} from '../../fixtures/documentation/page-list.js';
import {
  markTranslated,
  translatedVersion,
  versionOf,
} from '../../fixtures/documentation/translated-version.js';

/** English pages without a Chinese one. The list may only shrink: a page that is translated is removed from it. */
const NOT_YET_TRANSLATED: readonly string[] = ['configuration.md', 'options.md'];

/** Words that Chinese pages do not use, with the word of the glossary in zh/README.md that they do use. */
const FORBIDDEN_WORDS: Readonly<Record<string, string>> = {
  支撑集: '支持集',
  查询集合: '查询集',
  水平偏移: '基准偏移',
  捆绑包: '模型包',
  协调者: '协调器',
  工作节点: '工作进程',
  校验点: '检查点',
  散列: '哈希',
  文件夹: '目录',
  看板: '仪表板',
  仪表盘: '仪表板',
  逐位: '按位',
  逐比特: '按位',
  广告单元: '广告组',
  死亡: '退出、停止',
  挂掉: '退出、停止',
  活着: '运行、在线',
};

/** The levels of the headings in order, such as `# ## ### ##`. */
function headingLevels({ prose }: Page): string {
  return [...prose.matchAll(/^(#+) /gm)].map((match) => match[1] ?? '').join(' ');
}

/** Every code block with its language. */
function fencedBlocks({ text }: Page): string[] {
  return [...text.matchAll(/^```[\s\S]*?^```/gm)].map((match) => match[0]);
}

/** Every number with decimals in the text, such as `0.5347`. */
function figures({ prose }: Page): string[] {
  const text = prose.replace(/\]\([^)]*\)/g, '');
  return [...text.matchAll(/[-+]?\d[\d,]*\.\d+/g)].map(([figure]) => figure).sort();
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

test('a page names the version that it translates; another line break is no other version', () => {
  const marked = markTranslated('# 一\n', '# One\n\nTwo words.\n');
  expect(translatedVersion(marked)).toBe(versionOf('# One\n\nTwo\nwords.'));
  expect(translatedVersion(marked)).not.toBe(versionOf('# One\n\nTwo other words.'));
  expect(markTranslated(marked, 'Three')).toBe(markTranslated('# 一', 'Three'));
});

test('every Chinese page translates the present English page', () => {
  const stale = translations
    .filter(
      ({ english, chinese }) =>
        translatedVersion(pageAt(chinese).text) !== versionOf(pageAt(english).text),
    )
    .map(({ chinese }) => chinese);
  const cure =
    'translate what changed in the English pages, then run: node node_modules/typescript/bin/tsc -p tsconfig.json && ' +
    `node dist/test/fixtures/documentation/translated-version.js ${stale.join(' ')}`;
  expect(stale, cure).toEqual([]);
});

describe.each(translations)('$chinese', ({ english: englishAt, chinese: chineseAt }) => {
  const english = pageAt(englishAt);
  const chinese = pageAt(chineseAt);

  test('has the headings of the English page, level by level', () => {
    expect(headingLevels(chinese)).toBe(headingLevels(english));
  });

  test('has the code blocks of the English page, to the letter', () => {
    expect(fencedBlocks(chinese)).toEqual(fencedBlocks(english));
  });

  test('has tables with the rows and columns of the English ones', () => {
    expect(tableWidths(chinese)).toEqual(tableWidths(english));
  });

  test('has the figures of the English page', () => {
    expect(figures(chinese)).toEqual(figures(english));
  });

  test('has the pictures of the English page', () => {
    expect(pictures(chinese)).toEqual(pictures(english));
  });

  test('uses the words of the glossary', () => {
    const found = Object.entries(FORBIDDEN_WORDS)
      .filter(([word]) => chinese.text.includes(word))
      .map(([word, instead]) => `${word}: write ${instead}`);
    expect(found).toEqual([]);
  });
});
