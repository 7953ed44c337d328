/** The surroundings of a verb: where it prints, where events go, and when it must stop. */

import type { Clock } from '../../shared/base/clock.js';
import { systemClock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { printableText } from '../../shared/base/printable-text.js';
import { boundedRate } from '../../shared/events/event-log.js';
import { encodeEvent } from '../../shared/events/event-lines.js';
import { type StampedEventSink, noticeEvent } from '../../shared/events/run-events.js';
import { createTerminalSink } from '../../shared/events/terminal-sink.js';

export interface CommandContext {
  readonly clock: Clock;
  /** The variables of the process. */
  readonly environment: Record<string, string | undefined>;
  /** Writes results, and nothing else, to standard output. */
  readonly print: (text: string) => void;
  readonly outputColumns: number;
  /** Shows events on standard error. */
  readonly onEvent: StampedEventSink;
  /** Aborts at the first Ctrl-C, SIGTERM or SIGHUP. */
  readonly signal: AbortSignal;
  /** Writes events to standard error as lines of JSON from now on. */
  showEventsAsLines(): void;
  /** Ends the progress line, so that the next output starts on a new line. */
  endProgress(): void;
  /** Ends the progress line and removes the signal handlers. */
  close(): void;
}

/** The part of a stream of the process that a command uses. */
export interface CommandStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

const OUTPUT_COLUMNS_DEFAULT = 100;
/** The signals that stop a command. SIGHUP comes from a terminal that is closed. */
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const EXIT_CODE_KILLED_TWICE = 130;
/** npm forwards a Ctrl-C that the terminal has already delivered: both count as one. */
const SAME_SIGNAL_MS_MAX = 300;

export function openCommandContext(
  environment: Record<string, string | undefined>,
  output: CommandStream,
  diagnostics: CommandStream,
): CommandContext {
  const abort = new AbortController();
  const terminal = createTerminalSink({
    stream: diagnostics,
    isTTY: diagnostics.isTTY ?? false,
    clock: systemClock,
  });
  let show: StampedEventSink = terminal;
  let firstSignalMs: number | null = null;
  // The second signal ends the process at once, unless it comes from a terminal that is closed.
  const interrupt = (signal: NodeJS.Signals): void => {
    const nowMs = systemClock.monotonicMs();
    if (firstSignalMs !== null && signal === 'SIGHUP') return;
    if (firstSignalMs !== null && nowMs - firstSignalMs <= SAME_SIGNAL_MS_MAX) return;
    if (firstSignalMs !== null) process.exit(EXIT_CODE_KILLED_TWICE);
    firstSignalMs = nowMs;
    show({
      ...noticeEvent('stop-requested', 'stopping; once more to stop at once'),
      epochMs: systemClock.epochMs(),
    });
    abort.abort(
      new QianmoError({ kind: 'interrupted', what: 'stopped before the work was complete' }),
    );
  };
  for (const signal of STOP_SIGNALS) process.on(signal, interrupt);
  return {
    clock: systemClock,
    environment,
    print: (text) => {
      terminal.end();
      output.write(`${printableText(text)}\n`);
    },
    outputColumns: (output.isTTY ? output.columns : undefined) ?? OUTPUT_COLUMNS_DEFAULT,
    onEvent: (event) => show(event),
    showEventsAsLines: () => {
      show = boundedRate(systemClock, (event) => diagnostics.write(`${encodeEvent(event)}\n`));
    },
    signal: abort.signal,
    endProgress: () => terminal.end(),
    close: () => {
      terminal.end();
      for (const signal of STOP_SIGNALS) process.off(signal, interrupt);
    },
  };
}
