/** The circumstances of every recorded measurement. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../shared/base/clock.js';

export interface BenchHeader {
  readonly commit: string;
  readonly date: string;
  readonly machine: string;
  /** Load average of the last minute, before the measurement. */
  readonly loadBefore: number;
}

/** @param checkout a folder of the checkout whose commit is named. */
export function benchHeader(checkout = '.'): BenchHeader {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
    cwd: checkout,
    encoding: 'utf8',
  }).trim();
  return {
    commit,
    date: new Date(systemClock.epochMs()).toISOString().slice(0, 10),
    machine: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores, Node ${process.version}`,
    loadBefore: Math.round((loadavg()[0] ?? 0) * 10) / 10,
  };
}

/** The folder of a bench's runs. Runs of another commit are not reused. */
export function folderOfCommit(bench: string, { commit }: Pick<BenchHeader, 'commit'>): string {
  return `runs/${bench}/${commit}`;
}

/** The circumstances of a measurement as a sentence. */
export function circumstances({ commit, date, machine, loadBefore }: BenchHeader): string {
  return `Commit ${commit}, ${date}, ${machine}, load ${loadBefore} before.`;
}

/** Writes `NAME.json` and `NAME.md`, and prints the page. */
export function writeResult(folder: string, name: string, record: object, page: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(record, null, 1)}\n`);
  writeFileSync(join(folder, `${name}.md`), page);
  console.log(page);
}

/** `| a | b |` lines: a header, the rule below it, the rows. */
export function markdownTable(
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string[] {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  return [line(header), `|${'---|'.repeat(header.length)}`, ...rows.map(line)];
}

export function grouped(value: number): string {
  return value.toLocaleString('en');
}
