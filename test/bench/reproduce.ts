/**
 * `npm run reproduce`: makes the tables of `infra/results/` again, one command after the other, each
 * of which notes its commit, date and machine. What a table needs and is not there is said, not
 * skipped in silence.
 *
 *   npm run reproduce                          everything: some hours on two cores
 *   npm run reproduce -- --only sinusoid,learned-rule
 *   npm run reproduce -- --list
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../infra/cli/package-root.js';
import { TABLES, type ReproducedTable } from './reproduced-tables.js';

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

function described({ name, script, makes }: ReproducedTable): Outcome {
  return { line: `${name.padEnd(18)} npm run ${script.padEnd(22)} ${makes}`, hasFailed: false };
}

function reproduced(table: ReproducedTable): Outcome {
  const { name, script, needs } = table;
  const missing = (needs ?? []).filter((path) => !existsSync(new URL(path, packageRoot)));
  if (missing.length > 0)
    return { line: `left out  ${name}: there is no ${missing.join(', ')}`, hasFailed: false };
  process.stderr.write(`== ${name}: npm run ${script}\n`);
  const run = spawnSync('npm', ['run', script], { stdio: ['ignore', 'ignore', 'inherit'] });
  return run.status === 0
    ? { line: `made      ${name}: infra/results/${table.makes}`, hasFailed: false }
    : { line: `FAILED    ${name}: npm run ${script} ended with ${run.status}`, hasFailed: true };
}
