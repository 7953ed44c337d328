/** The tables of benches and checks name files and pages that exist, and every results page has an entry. */

import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import {
  BENCHES,
  CHECKS,
  commandOf,
  moduleOf,
  RECORDED_SCRIPTS,
  withOptions,
} from '../../bench/benches.js';

const { scripts } = z
  .looseObject({ scripts: z.record(z.string(), z.string()) })
  .parse(JSON.parse(readFileSync('package.json', 'utf8')));
const all = [...BENCHES, ...CHECKS, ...RECORDED_SCRIPTS];
const SCRIPTS_MAX = 20;

/** Pages that no entry writes. */
const WRITTEN = ['README.md', 'reproduced.md'];

function ended(...words: string[]): Promise<{ code: number | string; text: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['dist/test/bench/bench.js', ...words], (error, output, errors) => {
      resolve({ code: error?.code ?? 0, text: output + errors });
    });
  });
}

describe('the tables of benches', () => {
  test('have distinct names of one or two words, and modules that exist', () => {
    for (const table of [BENCHES, CHECKS]) {
      const names = table.map(({ name }) => name);
      expect(new Set(names).size).toBe(names.length);
      for (const name of names) expect(name).toMatch(/^[a-z-]+( [a-z-]+)?$/);
    }
    expect(all.filter((bench) => !existsSync(moduleOf(bench)))).toEqual([]);
  });

  test('name scripts of package.json, of which there are few', () => {
    for (const bench of all) expect(Object.keys(scripts)).toContain(commandOf(bench).split(' ')[0]);
    expect(Object.keys(scripts).length).toBeLessThanOrEqual(SCRIPTS_MAX);
  });

  test('have an entry for every file of infra/results, and the index lists its pages', () => {
    const nameOf = (file: string): string => file.replace(/\.[a-z]+$/, '');
    const made = new Set([...all.flatMap(({ page }) => page ?? []), ...WRITTEN].map(nameOf));
    const unmade = readdirSync('infra/results').filter((file) => !made.has(nameOf(file)));
    expect(unmade).toEqual([]);
    const index = readFileSync('infra/results/README.md', 'utf8');
    const pages = readdirSync('infra/results').filter((file) => /^[a-z-]+\.md$/.test(file));
    expect(pages.filter((file) => !index.includes(`](${file})`))).toEqual([]);
  });

  test('give the words of a command line, with one `--` for npm', () => {
    expect(withOptions('bench -- ope', [])).toEqual(['bench', '--', 'ope']);
    expect(withOptions('bench -- ope', ['--help'])).toEqual(['bench', '--', 'ope', '--help']);
    expect(withOptions('fuzz', ['--help'])).toEqual(['fuzz', '--', '--help']);
  });
});

describe('npm run bench', () => {
  test('runs the entry with the longest name', async () => {
    const { code, text } = await ended('bench', 'serving', 'kernel', '--ghost');
    expect(code, text).toBe(2);
    expect(text).toContain("Unknown option '--ghost'");
    expect(text).toContain('`npm run bench -- serving kernel --help` lists the options');
  });

  test('lists all entries without a name, and some with the first of two words', async () => {
    const { code, text } = await ended('bench');
    expect(code).toBe(0);
    for (const { name, about } of BENCHES) expect(text).toContain(`  ${name.padEnd(22)} ${about}`);
    const serving = await ended('bench', 'serving');
    expect(serving.code).toBe(0);
    expect(serving.text).toContain('serving swap');
    expect(serving.text).not.toContain('soak');
  });

  test('refuses an unknown name as a usage error', async () => {
    const { code, text } = await ended('check', 'ghost');
    expect(code).toBe(2);
    expect(text).toContain('error: no check has the name ghost');
    expect(text).toContain('  deployment ');
  });
});
