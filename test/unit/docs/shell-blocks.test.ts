/**
 * The commands of other programs in the pages: the shell reads every block, and what they name in this repository is
 * there. Calls of qianmo itself are parsed in documentation.test.ts.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { codeBlocks, pageAt } from '../../fixtures/documentation/markdown-page.js';
import {
  chinesePages,
  chinesePath,
  englishPages,
  englishPath,
} from '../../fixtures/documentation/page-list.js';

const pages = [
  'README.md',
  ...englishPages.map((page) => englishPath(page)),
  ...chinesePages.map((page) => chinesePath(page)),
].map((path) => ({ path, blocks: codeBlocks(pageAt(path), 'bash') }));
const withBlocks = pages.filter(({ blocks }) => blocks.length > 0);
const lines = pages.flatMap(({ blocks }) => blocks.flatMap((block) => block.split('\n')));

/** The words that follow a flag in calls of a program. */
function valuesOf(program: string, flag: string): string[] {
  const pattern = new RegExp(` ${flag}[ =](\\S+)`, 'g');
  return lines
    .filter((line) => line.startsWith(`${program} `))
    .flatMap((line) => [...line.matchAll(pattern)].map(([, value = '']) => value));
}

function isSyntaxOfBash(script: string): boolean {
  return spawnSync('bash', ['-n'], { input: script }).status === 0;
}

/** Whether the values of the chart have the field. A pool has any name. */
function isValueOfChart(path: string): boolean {
  let found: unknown = parse(readFileSync('infra/deploy/chart/values.yaml', 'utf8'));
  for (const field of path.split('.')) {
    if (typeof found !== 'object' || found === null || !(field in found)) return false;
    found = (found as Readonly<Record<string, unknown>>)[field];
  }
  return true;
}

test.each(withBlocks)('the shell reads the blocks of $path', ({ blocks }) => {
  expect(blocks.filter((block) => !isSyntaxOfBash(block))).toEqual([]);
});

describe('what commands name in this repository', () => {
  test('files and folders are there', () => {
    const named = lines.flatMap((line) => line.match(/(?<=^|[\s=/])infra\/[\w./-]+/g) ?? []);
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((path) => !existsSync(path))).toEqual([]);
  });

  test('targets are stages of the Dockerfile', () => {
    const dockerfile = readFileSync('infra/deploy/images/Dockerfile', 'utf8');
    const stages = [...dockerfile.matchAll(/^FROM \S+ AS (\S+)$/gm)].map(([, stage]) => stage);
    const targets = valuesOf('docker', '--target');
    expect(targets.length).toBeGreaterThan(3);
    expect(targets.filter((target) => !stages.includes(target))).toEqual([]);
  });

  test('values that helm sets are values of the chart', () => {
    const set = [...valuesOf('helm', '--set'), ...valuesOf('helm', '--set-file')].map(
      (assignment) => assignment.split('=')[0] ?? '',
    );
    expect(set.length).toBeGreaterThan(1);
    expect(set.filter((path) => !isValueOfChart(path))).toEqual([]);
  });
});

test('a block that the shell cannot read is found', () => {
  expect(isSyntaxOfBash('for x in a; do echo "$x"\n')).toBe(false);
});

test.each(['run.config', 'pools.cpu.replicas'])('%s is a value of the chart', (path) => {
  expect(isValueOfChart(path)).toBe(true);
});

test('a misspelt value of the chart is found', () => {
  expect(isValueOfChart('run.confg')).toBe(false);
});
