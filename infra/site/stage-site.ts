/** The folder that VitePress builds from: pages of the repository, the files they show, navigation and theme. */

import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileAddress, placeOf, stagedPage } from './staged-page.js';

type Language = 'en' | 'zh';

interface Section {
  readonly title: Readonly<Record<Language, string>>;
  /** Pages below infra/docs. */
  readonly pages: readonly string[];
}

const SECTIONS: readonly Section[] = [
  {
    title: { en: 'Start', zh: '入门' },
    pages: ['tutorial/own-logs-to-ranking.md', 'concepts.md', 'results.md'],
  },
  {
    title: { en: 'How to', zh: '操作指南' },
    pages: [
      'own-logs.md',
      'auto/auto.md',
      'evaluation.md',
      'bundles.md',
      'serving.md',
      'exploration.md',
      'machines.md',
      'plugins.md',
      'market/market.md',
    ],
  },
  {
    title: { en: 'Operation', zh: '运维' },
    pages: [
      'operation/deployment.md',
      'operation/watching.md',
      'operation/metrics.md',
      'operation/trackers.md',
      'operation/dashboard.md',
      'runbook.md',
      'fault-matrix.md',
      'determinism.md',
    ],
  },
  {
    title: { en: 'Reference', zh: '参考' },
    pages: [
      'command-line.md',
      'options.md',
      'configuration.md',
      'expressions.md',
      'methods.md',
      'library.md',
      'engine.md',
      'architecture.md',
    ],
  },
];

interface NavigationLink {
  readonly text: string;
  readonly link: string;
}

interface Navigation {
  readonly nav: readonly NavigationLink[];
  readonly sidebar: readonly { readonly text: string; readonly items: readonly NavigationLink[] }[];
}

/** The navigation of a language. `headingOf` gives the first heading of a page below infra/docs, or null if it has none. */
export function navigationOf(
  language: Language,
  headingOf: (page: string) => string | null,
): Navigation {
  const below = language === 'en' ? '' : `${language}/`;
  const linkTo = (page: string): NavigationLink => ({
    text: headingOf(`${below}${page}`) ?? headingOf(page) ?? page,
    link: `/${below}${page.replace(/\.md$/, '')}`,
  });
  const sidebar = SECTIONS.map(({ title, pages }) => ({
    text: title[language],
    items: pages.map(linkTo),
  }));
  const nav = SECTIONS.flatMap(({ title, pages: [first] }) =>
    first === undefined ? [] : [{ text: title[language], link: linkTo(first).link }],
  );
  const records = [
    { text: { en: 'Measurements', zh: '测量记录' }[language], link: '/results/' },
    { text: { en: 'Decisions', zh: '设计决策' }[language], link: '/decisions/' },
  ];
  return {
    nav,
    sidebar: [...sidebar, { text: { en: 'Records', zh: '记录' }[language], items: records }],
  };
}

const DOCS = 'infra/docs/';
const CHINESE = 'zh/';
const PAGE_FOLDERS = ['infra/docs', 'infra/decisions', 'infra/results'];
const EXAMPLES = 'infra/examples';
/** Files of this size are data, which a site does not need. */
const COPIED_BYTES_MAX = 4 * 1024 * 1024;

const UNTRANSLATED_NOTE = '> 本页尚无中文版，以下为英文原文。\n\n';

/**
 * Writes the site of the repository at `root` to the folder `staged`, for the path `base`, such as `/`. Returns the
 * number of pages of the repository in it.
 */
export function stageSite(root: string, staged: string, base: string): number {
  rmSync(staged, { recursive: true, force: true });
  const copied = new Set<string>();
  const stage = (path: string, below: string, note: string): void => {
    const source = readFileSync(join(root, path), 'utf8');
    const page = stagedPage(path, source, {
      isFile: (file) => isFile(join(root, file)),
      base,
      below,
    });
    write(join(staged, below, placeOf(path) ?? path), note + page.text);
    for (const file of page.files) copied.add(file);
  };
  const paths = ['README.md', ...PAGE_FOLDERS.flatMap((folder) => filesBelow(root, folder))].filter(
    (path) => placeOf(path) !== null,
  );
  for (const path of paths) stage(path, '', '');
  for (const path of paths.filter((each) => isUntranslated(each, paths)))
    stage(path, CHINESE, UNTRANSLATED_NOTE);
  for (const file of copied) copyFile(root, staged, file);
  write(join(staged, 'decisions/index.md'), decisionList(root));
  write(join(staged, 'files/index.md'), fileList([...copied], base));
  const records = paths.flatMap((path) => (path.startsWith(DOCS) ? [] : [placeOf(path) ?? path]));
  for (const place of ['decisions/index.md', 'files/index.md', ...records])
    write(join(staged, CHINESE, place), signpostTo(place));
  writeTheme(root, staged, base);
  return paths.length;
}

function isUntranslated(path: string, paths: readonly string[]): boolean {
  if (!path.startsWith(DOCS) || path.startsWith(`${DOCS}${CHINESE}`)) return false;
  return !paths.includes(path.replace(DOCS, `${DOCS}${CHINESE}`));
}

/** A page for the switch of languages, where a record is in English only. */
function signpostTo(place: string): string {
  const up = '../'.repeat(place.split('/').length);
  return `---\nsearch: false\n---\n\n# 仅有英文版\n\n[打开英文页](${up}${place})\n`;
}

function writeTheme(root: string, staged: string, base: string): void {
  const heading = (page: string): string | null => {
    const path = join(root, 'infra/docs', page);
    return isFile(path) ? headingOf(readFileSync(path, 'utf8')) : null;
  };
  const site = { base, en: navigationOf('en', heading), zh: navigationOf('zh', heading) };
  const from = join(root, 'infra/site/vitepress');
  cpSync(join(from, 'config.mjs'), join(staged, '.vitepress/config.mjs'));
  cpSync(join(from, 'theme'), join(staged, '.vitepress/theme'), { recursive: true });
  write(join(staged, '.vitepress/site.json'), JSON.stringify(site, null, 2));
}

function headingOf(text: string): string | null {
  return /^# (.*)$/m.exec(text)?.[1] ?? null;
}

function decisionList(root: string): string {
  const rows = readdirSync(join(root, 'infra/decisions'))
    .sort()
    .map((name) => {
      const heading = headingOf(readFileSync(join(root, 'infra/decisions', name), 'utf8')) ?? name;
      return `- [${heading}](./${name})`;
    });
  return `# Decisions\n\nEach page says what was decided, why, and what else was considered.\n\n${rows.join('\n')}\n`;
}

function fileList(files: readonly string[], base: string): string {
  const rows = [...files]
    .sort()
    .map((file) => `- <a href="${fileAddress(file, base)}" target="_self">${file}</a>`);
  return `# Files\n\nFiles of the repository that pages link to. More examples are in \`${EXAMPLES}\`.\n\n${rows.join('\n')}\n`;
}

function copyFile(root: string, staged: string, file: string): void {
  if (statSync(join(root, file)).size > COPIED_BYTES_MAX)
    throw new Error(`a page links to ${file}, which is too large for the site`);
  const target = join(staged, 'public', fileAddress(file, '/'));
  mkdirSync(dirname(target), { recursive: true });
  cpSync(join(root, file), target);
}

function filesBelow(root: string, folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const path = `${folder}/${entry.name}`;
      return entry.isDirectory() ? filesBelow(root, path) : [path];
    })
    .sort();
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
