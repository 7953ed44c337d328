/** The configuration reference matches the schemas. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  configReference,
  configSchema,
  optionsReference,
} from '../../../infra/cli/reference-pages.js';

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
