/** What every verb is given: where to write, when to stop, how to open stores, what to close. */

import type { Clock } from '../../shared/base/clock.js';
import { systemClock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { runEventSink, type RunEventSink } from '../../shared/events/run-events.js';
import { createTerminalSink } from '../../shared/events/terminal-sink.js';

export interface CommandContext {
  readonly clock: Clock;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Results go here, and nothing else. */
  readonly print: (text: string) => void;
  readonly outputColumns: number;
  /** Progress and notices go to standard error. */
  readonly sink: RunEventSink;
  /** Aborts at the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** Called in reverse order when the verb has ended, however it ended. */
  readonly onClose: (close: () => Promise<void>) => void;
  /** Ends the progress line, so that what is written next starts a line of its own. */
  endProgress(): void;
  close(): Promise<void>;
}

const OUTPUT_COLUMNS_DEFAULT = 100;
const EXIT_CODE_KILLED_TWICE = 130;
/** npm hands Ctrl-C on to a command that the terminal has told already: that is one Ctrl-C. */
const SAME_SIGNAL_MS_MAX = 300;

export function openCommandContext(
  environment: Readonly<Record<string, string | undefined>>,
  output: NodeJS.WriteStream,
  diagnostics: NodeJS.WriteStream,
): CommandContext {
  const abort = new AbortController();
  const closers: (() => Promise<void>)[] = [];
  const terminal = createTerminalSink({
    stream: diagnostics,
    isTTY: diagnostics.isTTY,
    clock: systemClock,
  });
  const sink = runEventSink({ clock: systemClock }, terminal);
  let firstSignalMs: number | null = null;
  // The second signal is for someone who will not wait.
  const interrupt = (): void => {
    const nowMs = systemClock.monotonicMs();
    if (firstSignalMs !== null && nowMs - firstSignalMs <= SAME_SIGNAL_MS_MAX) return;
    if (firstSignalMs !== null) process.exit(EXIT_CODE_KILLED_TWICE);
    firstSignalMs = nowMs;
    sink({ kind: 'stop-requested' });
    abort.abort(
      new QianmoError({ kind: 'interrupted', what: 'stopped before the work was complete' }),
    );
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  return {
    clock: systemClock,
    environment,
    print: (text) => {
      terminal.end();
      output.write(`${text}\n`);
    },
    outputColumns: output.isTTY ? output.columns : OUTPUT_COLUMNS_DEFAULT,
    sink,
    signal: abort.signal,
    onClose: (close) => {
      closers.push(close);
    },
    endProgress: () => terminal.end(),
    close: async () => {
      terminal.end();
      // One that fails must not keep workers or servers alive; the first failure is told at the end.
      const failures: unknown[] = [];
      for (const close of closers.splice(0).reverse())
        await close().catch((error: unknown) => failures.push(error));
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', interrupt);
      if (failures.length > 0) throw failures[0];
    },
  };
}
