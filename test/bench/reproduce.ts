/**
 * `npm run reproduce` makes the tables of `infra/results/` again, one command after another; each
 * records its commit, date and machine. Missing requirements of a table are reported, not silently
 * skipped. Runs are kept by commit in `runs/reproduce`, so that a stopped command can resume.
 *
 *   npm run reproduce                          everything: most of a day on two cores
 *   npm run reproduce -- --only sinusoid,learned-rule
 *   npm run reproduce -- --list
 */

import { spawnSync, type StdioOptions } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../infra/library/package-root.js';
import { benchHeader, folderOfCommit } from './bench-header.js';
import { TABLES, type ReproducedTable } from './reproduced-tables.js';

/** A stopped command resumes when started again, at the same commit. */
const FOLDER = folderOfCommit('reproduce', benchHeader());

const { values: options } = parseArgs({
  options: { only: { type: 'string' }, list: { type: 'boolean', default: false } },
});

const names = options.only?.split(',') ?? TABLES.map(({ name }) => name);
const unknown = names.filter((name) => !TABLES.some((table) => table.name === name));
if (unknown.length > 0) {
  const known = TABLES.map(({ name }) => name).join(', ');
  process.stderr.write(`no table ${unknown.join(', ')}; expected some of ${known}\n`);
  process.exit(2);
}
const chosen = TABLES.filter(({ name }) => names.includes(name));
const outcomes = options.list ? chosen.map(described) : chosen.map(reproduced);
process.stdout.write(`${outcomes.map(({ line }) => line).join('\n')}\n`);
process.exitCode = outcomes.some(({ hasFailed }) => hasFailed) ? 1 : 0;

interface Outcome {
  readonly line: string;
  readonly hasFailed: boolean;
}

function described(table: ReproducedTable): Outcome {
  const line = `${table.name.padEnd(21)} ${table.makes.padEnd(22)} ${commandOf(table)}`;
  return { line, hasFailed: false };
}

function commandOf({ script, words = [] }: ReproducedTable): string {
  return ['npm run', script, ...(words.length === 0 ? [] : ['--', ...words])].join(' ');
}

function reproduced(table: ReproducedTable): Outcome {
  const { name, script, words = [], keepsRuns = false, needs } = table;
  const missing = (needs ?? []).filter((path) => !existsSync(new URL(path, packageRoot)));
  if (missing.length > 0)
    return { line: `skipped   ${name}: missing ${missing.join(', ')}`, hasFailed: false };
  process.stderr.write(`== ${name}: ${commandOf(table)}\n`);
  const stdio: StdioOptions = ['ignore', 'ignore', 'inherit'];
  const kept = keepsRuns ? ['--folder', `${FOLDER}/${name}`] : [];
  const run = spawnSync('npm', ['run', script, '--', ...words, ...kept], { stdio });
  return run.status === 0
    ? { line: `made      ${name}: infra/results/${table.makes}`, hasFailed: false }
    : { line: `FAILED    ${name}: ${commandOf(table)} ended with ${run.status}`, hasFailed: true };
}
