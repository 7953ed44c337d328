// The settings of VitePress. `site.json` beside the staged copy of this file holds the navigation.
import { readFileSync } from 'node:fs';
import { defineConfig } from 'vitepress';

const site = JSON.parse(readFileSync(new URL('site.json', import.meta.url), 'utf8'));

/** Names headings as code hosts do, so that a link to an anchor works on both. */
function anchorOf(heading) {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replace(/\s/g, '-');
}

/** Cuts text into words, also where a script has no spaces. The browser gets this function as text, so it stands alone. */
function wordsOf(text) {
  const segments = new Intl.Segmenter('zh', { granularity: 'word' }).segment(text);
  const words = [];
  for (const { segment, isWordLike } of segments) if (isWordLike) words.push(segment);
  return words;
}

const searchInChinese = {
  button: { buttonText: '搜索', buttonAriaLabel: '搜索文档' },
  modal: {
    displayDetails: '显示详情',
    resetButtonTitle: '清除',
    backButtonTitle: '关闭',
    noResultsText: '没有结果：',
    footer: { selectText: '打开', navigateText: '切换', closeText: '关闭' },
  },
};

const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#5b45c2"/>' +
  '<text x="16" y="23" font-size="20" text-anchor="middle" fill="#fff" font-family="sans-serif">千</text></svg>';

export default defineConfig({
  base: site.base,
  title: 'qianmo 千模',
  description:
    'Distributed meta-training for advertising: one shared trunk, a personal model per adgroup',
  // A browser asks for an icon in any case; this one needs no file.
  head: [['link', { rel: 'icon', href: `data:image/svg+xml,${encodeURIComponent(ICON)}` }]],
  // The reports of runs have both as well.
  appearance: true,
  lastUpdated: false,
  ignoreDeadLinks: false,
  markdown: {
    anchor: { slugify: anchorOf },
    theme: { light: 'github-light', dark: 'github-dark' },
    config: (md) => {
      // Text such as {{ x }} is text: pages are Markdown, not components.
      const escapedText = md.renderer.rules.text;
      md.renderer.rules.text = (...rendering) =>
        escapedText(...rendering).replace(/\{\{/g, '&#123;&#123;');
    },
  },
  locales: {
    root: {
      label: 'English',
      lang: 'en',
      themeConfig: { nav: site.en.nav, sidebar: site.en.sidebar },
    },
    zh: {
      label: '简体中文',
      lang: 'zh-CN',
      link: '/zh/',
      description: '面向广告的分布式元学习训练系统：共享主干，每个广告组一个个性化模型',
      themeConfig: {
        nav: site.zh.nav,
        sidebar: site.zh.sidebar,
        outline: { level: [2, 3], label: '本页目录' },
        docFooter: { prev: '上一页', next: '下一页' },
        darkModeSwitchLabel: '外观',
        lightModeSwitchTitle: '切换到浅色',
        darkModeSwitchTitle: '切换到深色',
        sidebarMenuLabel: '目录',
        returnToTopLabel: '回到顶部',
        langMenuLabel: '语言',
        skipToContentLabel: '跳到正文',
      },
    },
  },
  themeConfig: {
    outline: { level: [2, 3] },
    search: {
      provider: 'local',
      options: {
        locales: { zh: { translations: searchInChinese } },
        miniSearch: { options: { tokenize: wordsOf }, searchOptions: { fuzzy: 0.1, prefix: true } },
      },
    },
  },
});
