/**
 * The `qianmo` command: parses the command line, runs one verb, and turns the outcome into an exit
 * code. Expected failures print their report; anything else is a bug and prints its stack trace.
 */

import { CommanderError } from 'commander';
import { formatFailure, QianmoError } from '../../shared/base/errors.js';
import { keepCompiledCode } from '../../shared/base/compile-cache.js';
import { collectGarbageRarely } from '../../shared/base/garbage-collection.js';
import { printableText } from '../../shared/base/printable-text.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import { openCommandContext } from './command/command-context.js';
import { buildProgram } from './program.js';

collectGarbageRarely();
keepCompiledCode(process.env);
// TensorFlow in this process is as quiet as in compute processes, unless asked to speak.
process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';

const EXIT_CODE_USAGE = 2;
const EXIT_CODE_BUG = 70;

async function main(argv: readonly string[]): Promise<number> {
  const context = openCommandContext(process.env, process.stdout, process.stderr);
  try {
    const program = await buildProgram(argv, (parsed) => parsed(context));
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    context.endProgress();
    return report(error);
  } finally {
    context.close();
  }
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_CODE_USAGE;
  const failure = error instanceof QianmoError ? error : failureOfSystemError(error);
  if (failure !== null) {
    process.stderr.write(`${formatFailure(failure)}\n`);
    return failure.exitCode;
  }
  const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(
    `error: this is a bug in qianmo, please report it\n${printableText(trace)}\n`,
  );
  return EXIT_CODE_BUG;
}

// When the reader of a pipe closes it (`| head`), the command ends quietly.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
});

process.exitCode = await main(process.argv.slice(2)).catch(report);
