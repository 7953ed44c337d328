/** The configs in pages are accepted, whole ones as they stand and parts of them in a whole one. */

import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { parseConfig } from '../../../shared/config/yaml-file.js';
import { RunConfigSchema } from '../../../shared/config/run-config.js';
import { codeBlocks, pageAt } from '../../fixtures/documentation/markdown-page.js';
import {
  chinesePages,
  chinesePath,
  englishPages,
  englishPath,
} from '../../fixtures/documentation/page-list.js';

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
