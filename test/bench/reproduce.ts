/**
 * `npm run reproduce` makes the pages of `infra/results/` again, one command after another; each records its commit,
 * date and machine. Missing requirements are reported, not silently skipped. Runs are kept by commit in
 * `runs/reproduce`, and so is the list of pages that were made: a stopped command continues where it stopped.
 *
 *   npm run reproduce                          everything: most of a day on two cores
 *   npm run reproduce -- --only 'ope,serving kernel'
 *   npm run reproduce -- --only ope --again      also if it was made at this commit
 *   npm run reproduce -- --list
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { benchHeader, folderOfCommit } from './bench-header.js';
import {
  BENCHES,
  CHECKS,
  commandOf,
  missingOf,
  RECORDED_SCRIPTS,
  withOptions,
  type Bench,
} from './benches.js';
import { benchOptions } from './bench-options.js';
import { listOf, oneOf } from './option-values.js';

/** A stopped command resumes when started again, at the same commit. */
const FOLDER = folderOfCommit('reproduce', benchHeader());

const ALL = [...CHECKS, ...BENCHES, ...RECORDED_SCRIPTS].filter(({ page }) => page !== undefined);
const NAMES = ALL.map(({ name }) => name);

const options = benchOptions(import.meta.url, {
  only: { value: listOf(oneOf(NAMES)), about: 'makes these alone, with commas between them' },
  list: { type: 'boolean', default: false, about: 'lists the pages and makes none' },
  again: { type: 'boolean', default: false, about: 'makes a page again that is of this commit' },
});

interface Outcome {
  readonly line: string;
  readonly hasFailed: boolean;
}

const wanted = options.only ?? NAMES;
const chosen = ALL.filter(({ name }) => wanted.includes(name));
const outcomes = options.list ? chosen.map(describe) : reproduceAll(chosen);
process.stdout.write(`${outcomes.map(({ line }) => line).join('\n')}\n`);
process.exitCode = outcomes.some(({ hasFailed }) => hasFailed) ? 1 : 0;

function describe(bench: Bench): Outcome {
  const command = withOptions(commandOf(bench), bench.words ?? []).join(' ');
  const line = `${bench.name.padEnd(20)} ${(bench.page ?? '').padEnd(20)} npm run ${command}`;
  return { line, hasFailed: false };
}

function reproduceAll(benches: readonly Bench[]): Outcome[] {
  mkdirSync(FOLDER, { recursive: true });
  return benches.map((bench) => {
    const { name } = bench;
    const made = join(FOLDER, `${name.replaceAll(' ', '-')}.made`);
    if (existsSync(made) && !options.again)
      return { line: `kept      ${name}: made at this commit before`, hasFailed: false };
    const missing = missingOf(bench);
    if (missing.length > 0)
      return { line: `skipped   ${name}: missing ${missing.join(', ')}`, hasFailed: false };
    const status = makePage(bench);
    if (status !== 0)
      return { line: `FAILED    ${name}: ended with ${status ?? 'a signal'}`, hasFailed: true };
    writeFileSync(made, '');
    return { line: `made      ${name}: infra/results/${bench.page ?? ''}`, hasFailed: false };
  });
}

/** Returns the exit code of the command; null if a signal ended it. */
function makePage(bench: Bench): number | null {
  const { name, words = [], keepsRuns = false } = bench;
  const kept = keepsRuns ? ['--folder', `${FOLDER}/${name.replaceAll(' ', '-')}`] : [];
  const command = ['run', ...withOptions(commandOf(bench), [...words, ...kept])];
  process.stderr.write(`== ${name}: npm ${command.join(' ')}\n`);
  return spawnSync('npm', command, { stdio: ['ignore', 'ignore', 'inherit'] }).status;
}
