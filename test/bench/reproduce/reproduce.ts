/**
 * `npm run reproduce` makes the tables of `infra/results/` again, one command after another; each
 * records its commit, date and machine. Missing requirements of a table are reported, not silently
 * skipped. Runs are kept by commit in `runs/reproduce`, and so is what has been made: a stopped command goes on with
 * the table that it was at. `infra/results/reproduced.md` says which tables are of this commit, and what they took.
 *
 *   npm run reproduce                          everything: most of a day on two cores
 *   npm run reproduce -- --only sinusoid,learned-rule
 *   npm run reproduce -- --only sinusoid --again      also if it was made at this commit
 *   npm run reproduce -- --list
 */

import { spawnSync, type StdioOptions } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemClock } from '../../../shared/base/clock.js';
import { benchHeader, folderOfCommit } from '../bench-header.js';
import { ReproducedRecord } from './reproduced-record.js';
import { TABLES, type ReproducedTable } from './reproduced-tables.js';
import { benchOptions } from '../options/bench-options.js';
import { listOf, oneOf } from '../options/option-values.js';

const HEADER = benchHeader();
/** A stopped command resumes when started again, at the same commit. */
const FOLDER = folderOfCommit('reproduce', HEADER);
const PAGE = new URL('infra/results/reproduced.md', packageRoot);
const MS_PER_SECOND = 1000;

const TABLE_NAMES = TABLES.map(({ name }) => name);

const options = benchOptions(import.meta.url, {
  only: {
    value: listOf(oneOf(TABLE_NAMES)),
    about: 'measures these alone, with commas between them',
  },
  list: { type: 'boolean', default: false, about: 'lists the tables and makes none' },
  again: { type: 'boolean', default: false, about: 'makes a table again that is of this commit' },
});

const names = options.only ?? TABLE_NAMES;
const chosen = TABLES.filter(({ name }) => names.includes(name));
const outcomes = options.list ? chosen.map(described) : chosen.map(reproducedIn(FOLDER));
process.stdout.write(`${outcomes.map(({ line }) => line).join('\n')}\n`);
process.exitCode = outcomes.some(({ hasFailed }) => hasFailed) ? 1 : 0;

interface Outcome {
  readonly line: string;
  readonly hasFailed: boolean;
  readonly isMade?: boolean;
}

function described(table: ReproducedTable): Outcome {
  const line = `${table.name.padEnd(21)} ${table.makes.padEnd(22)} ${commandOf(table)}`;
  return { line, hasFailed: false };
}

function commandOf({ script, words = [] }: ReproducedTable): string {
  return ['npm run', script, ...(words.length === 0 ? [] : ['--', ...words])].join(' ');
}

function reproducedIn(folder: string): (table: ReproducedTable) => Outcome {
  const record = new ReproducedRecord(folder);
  const all = TABLES.map(({ name }) => name);
  return (table) => {
    const { name } = table;
    if (record.has(name) && !options.again)
      return { line: `kept      ${name}: made at this commit before`, hasFailed: false };
    const startMs = systemClock.monotonicMs();
    const outcome = reproduced(table);
    if (outcome.isMade === true) {
      record.note(name, (systemClock.monotonicMs() - startMs) / MS_PER_SECOND);
      writeFileSync(PAGE, record.page(all, HEADER));
    }
    return outcome;
  };
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
    ? {
        line: `made      ${name}: infra/results/${table.makes}`,
        ...{ hasFailed: false, isMade: true },
      }
    : { line: `FAILED    ${name}: ${commandOf(table)} ended with ${run.status}`, hasFailed: true };
}
