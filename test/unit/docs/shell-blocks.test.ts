/**
 * The commands of other programs in the pages: the shell reads every block, and what they name in this repository is
 * there. Calls of qianmo itself are parsed in documentation.test.ts.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { codeBlocks, pageAt } from '../../fixtures/documentation/markdown-page.js';
import { englishPages, englishPath } from '../../fixtures/documentation/page-list.js';

/** Chinese pages have the blocks of the English ones. */
const blocks = ['README.md', ...englishPages.map(englishPath)].flatMap((path) =>
  codeBlocks(pageAt(path), 'bash'),
);
const lines = blocks.flatMap((block) => block.split('\n'));

/** The words that follow a flag in calls of a program. */
function valuesOf(program: string, flag: string): string[] {
  const pattern = new RegExp(` ${flag}[ =](\\S+)`, 'g');
  return lines
    .filter((line) => line.startsWith(`${program} `))
    .flatMap((line) => [...line.matchAll(pattern)].map(([, value = '']) => value));
}

/** The scripts that bash does not read. One shell starts the others, which costs less than this process would. */
function unreadable(scripts: readonly string[]): string[] {
  const loop =
    'for script; do bash -n <<< "$script" 2> /dev/null || printf "%s\\0" "$script"; done';
  const { stdout } = spawnSync('bash', ['-c', loop, 'bash', ...scripts], { encoding: 'utf8' });
  return stdout.split('\0').slice(0, -1);
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

test('the shell reads every block', () => {
  const broken = 'for x in a; do echo "$x"\n';
  expect(unreadable([...blocks, broken])).toEqual([broken]);
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
