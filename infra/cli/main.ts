/** The process of the `qianmo` command: its settings, its streams and its exit code. */

import { closeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { keepCompiledCode } from '../../shared/base/cache-folder.js';
import { collectGarbageRarely } from '../../shared/base/garbage-collection.js';

collectGarbageRarely();
keepCompiledCode(process.env);
// TensorFlow in this process is as quiet as in compute processes, unless asked to speak.
process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';

// When the reader of a pipe closes it (`| head`), the command ends quietly. No other failure of its output ends its work.
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') process.exit(0);
});

// Progress that nobody reads any more, since its pipe is closed or the terminal gone, is no reason to end the work.
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
});

const words = process.argv.slice(2);
process.on('exit', terminalsAtExit());
const { runCommand } = await import('./program.js');
process.exitCode = await runCommand(words, {
  environment: process.env,
  output: process.stdout,
  diagnostics: process.stderr,
  input: () => process.stdin,
});

/**
 * Returns a function that closes, just before the exit, those streams that are terminals now and are gone by then: Node
 * aborts at its exit where it cannot restore the settings of a terminal.
 */
function terminalsAtExit(): () => void {
  const terminals = [0, 1, 2].filter((stream) => isatty(stream));
  return () => {
    for (const stream of terminals) if (!isatty(stream)) closeQuietly(stream);
  };
}

function closeQuietly(stream: number): void {
  try {
    closeSync(stream);
  } catch {
    // It was closed before.
  }
}
