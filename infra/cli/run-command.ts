/**
 * One run of the `qianmo` command: parses the command line, runs one verb, and turns the outcome into an
 * exit code. Expected failures print their report; anything else is a bug and prints its stack trace.
 */

import { CommanderError } from 'commander';
import { formatFailure, QianmoError } from '../../shared/base/errors.js';
import { printableText } from '../../shared/base/printable-text.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import { openCommandContext, type CommandStream } from './command-context.js';
import { buildProgram } from './program.js';

const EXIT_CODE_USAGE = 2;
const EXIT_CODE_BUG = 70;

export interface CommandSurroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Receives results, and nothing else. */
  readonly output: CommandStream;
  readonly diagnostics: CommandStream;
}

/** @returns the exit code of the process */
export async function runCommand(
  words: readonly string[],
  surroundings: CommandSurroundings,
): Promise<number> {
  const { environment, output, diagnostics } = surroundings;
  const context = openCommandContext(environment, output, diagnostics);
  try {
    const program = buildProgram(
      words,
      (parsed) => parsed(context),
      (text) => void output.write(text),
    );
    await program.parseAsync(words, { from: 'user' });
    return 0;
  } catch (error) {
    context.endProgress();
    return report(error, diagnostics);
  } finally {
    context.close();
  }
}

function report(error: unknown, diagnostics: CommandStream): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_CODE_USAGE;
  const failure = error instanceof QianmoError ? error : failureOfSystemError(error);
  if (failure !== null) {
    diagnostics.write(`${formatFailure(failure)}\n`);
    return failure.exitCode;
  }
  const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
  diagnostics.write(`error: this is a bug in qianmo, please report it\n${printableText(trace)}\n`);
  return EXIT_CODE_BUG;
}
