/** The circumstances of every recorded measurement. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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

/**
 * Writes `NAME.json` and the page, and prints the text.
 *
 * @param text begins with its title, `# Title`. Texts of other titles that the page has stay.
 * @param page the name of the page, which several benches may share.
 */
export function writeResult(
  folder: string,
  name: string,
  record: object,
  text: string,
  page = name,
): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(record, null, 1)}\n`);
  const file = join(folder, `${page}.md`);
  writeFileSync(file, withText(existsSync(file) ? readFileSync(file, 'utf8') : '', text));
  console.log(text);
}

/** The page with the text in the place of that with the same title, or at the end. */
export function withText(page: string, text: string): string {
  const titleOf = (part: string): string => part.slice(0, part.indexOf('\n')).trim();
  const parts = page.split(/^(?=# )/m).map((part) => part.trimEnd());
  const found = parts.findIndex((part) => titleOf(`${part}\n`) === titleOf(text));
  const all = found < 0 ? [...parts, text.trimEnd()] : parts.with(found, text.trimEnd());
  return `${all.filter((part) => part !== '').join('\n\n')}\n`;
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
