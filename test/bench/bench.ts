/**
 * `npm run bench -- NAME [options]` and `npm run check -- NAME [options]` run one entry of the tables in
 * `benches.ts`. Without a name, or with the first of two words, they list what there is.
 */

import { spawn } from 'node:child_process';
import { EXIT_CODE_BY_KIND } from '../../shared/base/errors.js';
import { BENCHES, CHECKS, moduleOf, type Bench } from './benches.js';

const NAME_COLUMNS = 22;

const [, , script = 'bench', ...words] = process.argv;
const table = script === 'check' ? CHECKS : BENCHES;
const chosen = table.filter(isNamed).sort((a, b) => b.name.length - a.name.length)[0];
if (chosen === undefined) listNames();
else runBench(chosen);

function isNamed({ name }: Bench): boolean {
  return name.split(' ').every((word, index) => words[index] === word);
}

function runBench(bench: Bench): void {
  const options = words.slice(bench.name.split(' ').length);
  const args = [...(bench.node ?? []), moduleOf(bench), ...options];
  const child = spawn(process.execPath, args, { stdio: 'inherit' });
  // The terminal sends these to both; the bench decides when to end.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  child.once('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}

/** An unknown name is a usage error; none at all, or `--help`, is a question. */
function listNames(): void {
  const [first] = words;
  const isQuestion = first === undefined || first === '--help' || first === '-h';
  const begun = table.filter(({ name }) => name.startsWith(`${first} `));
  const shown = begun.length > 0 ? begun : table;
  const lines = shown.map(({ name, about }) => `  ${name.padEnd(NAME_COLUMNS)} ${about}`);
  const text = [
    `npm run ${script} -- NAME [options]; --help behind a name lists its options`,
    '',
    ...lines,
    '',
  ].join('\n');
  if (isQuestion || begun.length > 0) {
    process.stdout.write(text);
    return;
  }
  process.stderr.write(`error: no ${script} has the name ${first}\n\n${text}`);
  process.exitCode = EXIT_CODE_BY_KIND.usage;
}
