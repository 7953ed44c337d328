/** The configuration reference matches the schemas. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import {
  configReference,
  fieldTables,
  optionsReference,
  schemaNodeOf,
} from '../../../infra/cli/write-reference.js';

const HEADER = '| field | expected | default | meaning |\n|---|---|---|---|\n';

describe('configuration reference', () => {
  test('the page is up to date (npm run docs:reference writes it)', () => {
    expect(readFileSync('infra/docs/configuration.md', 'utf8')).toBe(configReference());
  });

  test('so is that of options, which all have a meaning', () => {
    const page = optionsReference();
    expect(readFileSync('infra/docs/options.md', 'utf8')).toBe(page);
    expect(page.split('\n').filter((line) => /\|\s*\|$/.test(line))).toEqual([]);
  });

  test('every field has a meaning', () => {
    const bare = configReference()
      .split('\n')
      .filter((line) => /^\| `/.test(line) && /\|\s*\|$/.test(line));
    expect(bare).toEqual([]);
  });

  test('a field shows type, bounds, default and meaning', () => {
    const schema = z.strictObject({
      shards: z.int().min(1).max(4096).default(8).describe('Parts of the store | files.'),
      name: z.string().describe('Names it.'),
    });
    expect(fieldTables(schemaNodeOf(schema))).toEqual([
      `${HEADER}| \`shards\` | whole number, at least 1, at most 4,096 | \`8\` | Parts of the store \\| files. |\n` +
        '| `name` | text | required | Names it. |',
    ]);
  });

  test('fields of several alternatives are one row that names them', () => {
    const schema = z.strictObject({
      by: z.discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('a'), share: z.number().describe('Share.') }),
        z.strictObject({ kind: z.literal('b'), share: z.number().describe('Share.') }),
        z.strictObject({ kind: z.literal('c'), limit: z.boolean().describe('Limit.') }),
      ]),
    });
    expect(fieldTables(schemaNodeOf(schema))).toEqual([
      `${HEADER}| \`by\` | \`kind: a\` or \`kind: b\` or \`kind: c\` | required |  |\n` +
        '| `by.share` | number | required | With `kind: a`, `kind: b`. Share. |\n' +
        '| `by.limit` | `true` or `false` | required | With `kind: c`. Limit. |',
    ]);
  });

  test('a union of sections has one table per section', () => {
    const schema = z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('plain') }).describe('Nothing to set.'),
      z.strictObject({ kind: z.literal('deep'), width: z.int().describe('Width.') }),
    ]);
    expect(fieldTables(schemaNodeOf(schema))).toEqual([
      '**`kind: plain`**: Nothing to set.\n\nNo settings.',
      `**\`kind: deep\`**\n\n${HEADER}| \`width\` | whole number | required | Width. |`,
    ]);
  });
});
