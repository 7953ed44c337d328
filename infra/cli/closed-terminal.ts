/**
 * A terminal that closes while a command runs, as when a connection to the machine is lost: writes to it fail, and Node aborts at its
 * exit where it cannot restore the settings of a terminal.
 */

import { closeSync } from 'node:fs';
import { isatty } from 'node:tty';

const STANDARD_STREAMS = [0, 1, 2];

/** True if a write failed because a pipe has no reader any more. */
export function isClosedPipe({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EPIPE';
}

/** True if a write failed because a pipe has no reader any more, or a terminal is gone. */
export function hasNoReader(error: NodeJS.ErrnoException): boolean {
  return isClosedPipe(error) || error.code === 'EIO';
}

/** Returns what closes, just before the exit, those streams that are terminals now and are gone by then. */
export function terminalsAtExit(): () => void {
  const terminals = STANDARD_STREAMS.filter((stream) => isatty(stream));
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
