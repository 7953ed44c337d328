/** The signals that a command stops at: the first one, and the second one, which ends its process. */

import { afterEach, expect, it, vi } from 'vitest';
import { openCommandContext, type CommandContext } from '../../../infra/cli/command-context.js';
import { systemClock } from '../../../shared/base/clock.js';

const SILENT = { write: () => true };
let nowMs = 1_000;
let context: CommandContext;

afterEach(() => {
  context.close();
  vi.restoreAllMocks();
});

function openedWithExit() {
  vi.spyOn(systemClock, 'monotonicMs').mockImplementation(() => nowMs);
  const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);
  context = openCommandContext({}, SILENT, SILENT);
  return exit;
}

function send(...signals: NodeJS.Signals[]): void {
  for (const signal of signals) {
    nowMs += 1_000;
    process.emit(signal, signal);
  }
}

// Seen to fail: the checkpoint of a training was lost when its terminal closed after Ctrl-C.
it('a terminal that closes begins a stop, and ends none', () => {
  const exit = openedWithExit();
  send('SIGINT', 'SIGHUP', 'SIGHUP');
  expect(context.signal.aborted).toBe(true);
  expect(exit).not.toHaveBeenCalled();
});

it.each(['SIGINT', 'SIGHUP'] as const)('a Ctrl-C after %s ends the process', (first) => {
  const exit = openedWithExit();
  send(first);
  expect(context.signal.aborted).toBe(true);
  expect(exit).not.toHaveBeenCalled();
  send('SIGINT');
  expect(exit).toHaveBeenCalledWith(130);
});
