/** User-facing pages are correct: links resolve, commands parse, configs are valid. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import {
  configReference,
  configSchema,
  optionsReference,
} from '../../../infra/cli/reference-pages.js';
import { EXIT_CODE_BY_KIND } from '../../../shared/base/errors.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { RunConfigSchema } from '../../../shared/config/run-config.js';
import { parseConfig } from '../../../shared/config/yaml-file.js';
import { BENCHES, CHECKS, commandOf } from '../../bench/benches.js';
import {
  parseOnly,
  qianmoLines,
  qianmoLinesOf,
  qianmoMentionsOf,
  unknownIn,
  verbs,
} from '../../fixtures/documentation/command-lines.js';
import {
  anchorsOf,
  codeBlocks,
  linksOf,
  type Page,
  pageAt,
  tableWidths,
} from '../../fixtures/documentation/markdown-page.js';
import {
  chinesePages,
  chinesePath,
  englishPages,
  englishPath,
} from '../../fixtures/documentation/page-list.js';
import { files, sources } from '../../tidy/sources.js';

const readme = pageAt('README.md');
const chineseReadme = pageAt('README.zh.md');
const english = englishPages.map((page) => pageAt(englishPath(page)));
const docs = [...english, ...chinesePages.map((page) => pageAt(chinesePath(page)))];
const decisions = readdirSync('infra/decisions').map((name) =>
  pageAt(join('infra/decisions', name)),
);
const others = ['infra/results/README.md', 'infra/python/README.md'].map(pageAt);
const pages = [readme, chineseReadme, ...docs, ...decisions, ...others];

/** The folders that the fenced tree of a page draws, on lines of their own or named on the line of a parent. */
function foldersDrawn({ text }: Page): string[] {
  const tree = /^```\n(shared\/[\s\S]*?)^```/m.exec(text)?.[1] ?? '';
  const drawn: string[] = [];
  let path: string[] = [];
  for (const line of tree.split('\n')) {
    const [, indent = '', name, rest = ''] = /^( {0,4})([\w-]+)\/(.*)$/.exec(line) ?? [];
    if (name !== undefined) {
      path = [...path.slice(0, indent.length / 2), name];
      drawn.push(path.join('/'));
    }
    const named = (name === undefined ? line : rest).matchAll(/([\w-]+(?:\/[\w-]+)*)\//g);
    for (const [, child = ''] of named) drawn.push([...path, child].join('/'));
  }
  return drawn;
}

function isThere(page: Page, link: string): boolean {
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? page.path : join(dirname(page.path), path);
  if (!existsSync(target)) return false;
  if (anchor === undefined || !statSync(target).isFile()) return anchor === undefined;
  return anchorsOf(pageAt(target)).includes(anchor);
}

/** Paths of this repository in backticks, such as `worker/carrying/work-loop.ts`. */
function pathsNamed({ prose }: Page): string[] {
  const found = prose.matchAll(/`((?:shared|coordinator|worker|infra|test)\/[\w./-]+)`/g);
  return [...found].map((match) => match[1] ?? '');
}

/** Whether git has a file of this path or below it: an empty folder is in no other checkout. */
function isTracked(path: string): boolean {
  const folder = path.endsWith('/') ? path : `${path}/`;
  return files.some((file) => file === path || file.startsWith(folder));
}

describe.each(pages)('$path', (page) => {
  test('its links resolve', () => {
    const local = linksOf(page).filter((link) => !/^[a-z]+:/.test(link));
    expect(local.filter((link) => !isThere(page, link))).toEqual([]);
  });

  test('the rows of each table have the same width', () => {
    const uneven = tableWidths(page).filter((widths) => new Set(widths).size > 1);
    expect(uneven).toEqual([]);
  });

  test('the files it names exist', () => {
    expect(pathsNamed(page).filter((path) => !isTracked(path))).toEqual([]);
  });
});

// Chinese pages have the code blocks of the English ones (`translation.test.ts`).
test.each([readme, ...english])('the commands of $path are valid', (page) => {
  for (const words of qianmoLinesOf(page))
    expect(() => parseOnly(words), words.join(' ')).not.toThrow();
});

describe.each([readme, chineseReadme, ...docs])('$path', (page) => {
  test('the verbs and options that its prose names exist', () => {
    for (const words of qianmoMentionsOf(page))
      expect(unknownIn(words), words.join(' ')).toEqual([]);
  });

  test('the scripts it names exist', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as {
      readonly scripts: Readonly<Record<string, string>>;
    };
    const named = [...page.text.matchAll(/npm run ([\w:-]+)/g)].map((match) => match[1] ?? '');
    expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
    const entries = [...page.text.matchAll(/npm run (bench|check) -- ([a-z-]+(?: [a-z-]+)?)/g)];
    const known = new Set([...BENCHES, ...CHECKS].map(commandOf));
    const unknown = entries.filter(
      ([, table = '', words = '']) =>
        !known.has(`${table} -- ${words}`) &&
        !known.has(`${table} -- ${words.split(' ')[0] ?? ''}`),
    );
    expect(unknown.map(([text]) => text)).toEqual([]);
  });
});

describe('documentation', () => {
  test('the architecture page draws every folder with sources, and no other', () => {
    const drawn = foldersDrawn(pageAt(englishPath('architecture.md')));
    const folders = new Set(
      sources.map(({ path }) => dirname(path)).filter((folder) => !/^(test|\.)/.test(folder)),
    );
    expect([...folders].filter((folder) => !drawn.includes(folder))).toEqual([]);
    expect(drawn.filter((folder) => !existsSync(folder))).toEqual([]);
  });

  test('every page is listed in its index', () => {
    const listed = linksOf(pageAt('infra/docs/README.md'));
    const names = englishPages.filter((name) => name !== 'README.md');
    expect(names.filter((name) => !listed.includes(name))).toEqual([]);
  });

  test('each README links to the other in its first lines', () => {
    expect(readme.text.split('\n').slice(0, 4).join('')).toContain('](README.zh.md)');
    expect(chineseReadme.text.split('\n').slice(0, 4).join('')).toContain('](README.md)');
  });

  test('notebooks are kept without what they printed, which would age', () => {
    const notebooks = files.filter((path) => path.endsWith('.ipynb'));
    expect(notebooks).toContain('infra/python/tour.ipynb');
    for (const path of notebooks) {
      const { cells } = JSON.parse(readFileSync(path, 'utf8')) as {
        readonly cells: readonly { readonly outputs?: readonly unknown[] }[];
      };
      expect(cells.flatMap(({ outputs = [] }) => outputs)).toEqual([]);
    }
  });

  test('the run configs of the README parse', () => {
    const configs = codeBlocks(readme, 'yaml');
    expect(configs.length).toBeGreaterThan(0);
    for (const yaml of configs) expect(parseConfig(RUN_CONFIG, yaml, 'README.md').seed).toBe(7);
  });

  test.each([englishPath('command-line.md'), chinesePath('command-line.md')])(
    'every verb is listed in %s with the exit codes of the code',
    (path) => {
      const { text } = pageAt(path);
      for (const verb of verbs()) expect(text).toContain(`| \`${verb.name()}\` |`);
      for (const code of new Set(Object.values(EXIT_CODE_BY_KIND)))
        expect(text).toContain(`| ${code} |`);
    },
  );

  test('the page of plugins names every verb that takes them', () => {
    const sentence = /^.*take `--plugin`.*$/m.exec(pageAt('infra/docs/plugins.md').text)?.[0] ?? '';
    const named = [...sentence.matchAll(/`([a-z][a-z-]*)`/g)].map((match) => match[1]);
    const taking = verbs().filter((verb) =>
      [verb, ...verb.commands].some(({ options }) =>
        options.some(({ long }) => long === '--plugin'),
      ),
    );
    expect(named.sort()).toEqual(taking.map((verb) => verb.name()).sort());
  });

  test('the example in every --help is a command', () => {
    for (const verb of verbs().flatMap((each) => [each, ...each.commands])) {
      let help = '';
      verb.configureOutput({ writeOut: (text) => (help += text) });
      verb.outputHelp();
      const examples = qianmoLines(help).filter(([name]) => name !== undefined);
      expect(examples.length, `qianmo ${verb.name()} --help`).toBeGreaterThan(0);
      for (const words of examples) expect(() => parseOnly(words), words.join(' ')).not.toThrow();
    }
  });
});

type Fields = Readonly<Record<string, unknown>>;
const FieldsSchema = z.record(z.string(), z.unknown());

const SECTIONS = Object.keys(RunConfigSchema.shape);
/** The README's config with the columns that parts in other pages name. */
const WHOLE = withColumns(
  FieldsSchema.parse(parse(codeBlocks(pageAt('README.md'), 'yaml')[0] ?? '')),
);

function withColumns(config: Fields): Fields {
  const data = FieldsSchema.parse(config['data']);
  const features = z.array(z.unknown()).parse(data['features']);
  const more = ['site', 'hour'].map((name) => ({ name, kind: 'category' }));
  return { ...config, data: { ...data, features: [...features, ...more] } };
}

function merged(whole: unknown, part: unknown): unknown {
  const [into, from] = [FieldsSchema.safeParse(whole), FieldsSchema.safeParse(part)];
  if (!into.success || !from.success) return part;
  const changed = Object.entries(from.data).map(([name, value]) => [
    name,
    merged(into.data[name], value),
  ]);
  return { ...into.data, ...Object.fromEntries(changed) };
}

/** The whole config that a block of a page stands for; null if it is another kind of YAML. */
function wholeOf(block: string): unknown {
  const fields = FieldsSchema.parse(parse(block));
  const part = Object.keys(fields).join() === 'features' ? { data: fields } : fields;
  if (!Object.keys(part).every((name) => SECTIONS.includes(name))) return null;
  if ('run' in part && 'data' in part) return part;
  return merged(WHOLE, part);
}

const blocks = englishPages.flatMap((name) =>
  codeBlocks(pageAt(englishPath(name)), 'yaml').map((block) => [name, block] as const),
);

describe('YAML in pages', () => {
  test.each(blocks)('%s: %s', (name, block) => {
    const whole = wholeOf(block);
    if (whole !== null) expect(() => parseConfig(RUN_CONFIG, stringify(whole), name)).not.toThrow();
  });

  test('most of it is of run configs', () => {
    const ofRuns = blocks.filter(([, block]) => wholeOf(block) !== null);
    expect(ofRuns.length).toBeGreaterThanOrEqual(10);
  });
});

const everyPage = [...englishPages.map(englishPath), ...chinesePages.map(chinesePath)];
const Expression = z.strictObject({ expression: z.string() });

describe('expressions in the text of pages', () => {
  const found = everyPage.flatMap((path) =>
    [...pageAt(path).text.matchAll(/\{ expression: [^{}]*\}/g)].map(
      ([text]) => [path, text] as const,
    ),
  );

  test.each(found)('%s: %s is YAML', (_, text) => {
    expect(Expression.safeParse(parse(text)).error).toBeUndefined();
  });

  test.each(
    everyPage.flatMap((path) =>
      [...pageAt(path).text.matchAll(/`(where: [^`]*)`/g)].map(([, text]) => [path, text] as const),
    ),
  )('%s: %s is YAML', (_, text) => {
    expect(
      z.strictObject({ where: z.string() }).safeParse(parse(text ?? '')).error,
    ).toBeUndefined();
  });
});

describe('configuration reference', () => {
  test('the page is up to date (npm run docs:reference writes it)', () => {
    expect(readFileSync('infra/docs/configuration.md', 'utf8')).toBe(configReference());
  });

  test('so is the schema for editors', () => {
    expect(readFileSync('infra/examples/run.schema.json', 'utf8')).toBe(configSchema());
  });

  test('so is that of options, which all have a meaning', () => {
    const page = optionsReference();
    expect(readFileSync('infra/docs/options.md', 'utf8')).toBe(page);
    expect(page.split('\n').filter((line) => /\|\s*\|$/.test(line))).toEqual([]);
  });

  test('every field has a meaning', () => {
    const bare = configReference()
      .split('\n')
      .filter((line) => /^\| [[<`]/.test(line) && /\|\s*\|$/.test(line));
    expect(bare).toEqual([]);
  });

  test('every field is an anchor once', () => {
    const anchors = [...configReference().matchAll(/<a id="([^"]+)">/g)].map(([, name]) => name);
    expect(anchors.length).toBeGreaterThan(200);
    expect(new Set(anchors).size).toBe(anchors.length);
  });
});
