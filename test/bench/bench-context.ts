/** The context of a bench that trains: this machine, the terminal, and Ctrl-C, as in the command. */

import type { RunContext } from '../../coordinator/runs/run-context.js';
import { openRunContext } from '../../coordinator/runs/run-handle.js';
import { openCommandContext } from '../../infra/cli/program.js';
import { localMachine } from '../../infra/library/local-machine.js';
import { runEventSink } from '../../shared/events/run-events.js';

export interface BenchContext extends RunContext {
  readonly print: (text: string) => void;
  /** Stops everything that was started in the context. */
  close(): Promise<void>;
}

export function openBenchContext(): BenchContext {
  const command = openCommandContext(process.env, process.stdout, process.stderr);
  const { clock, environment, signal, onEvent, print } = command;
  const sink = runEventSink({ clock }, onEvent);
  const opened = openRunContext({ machine: localMachine, clock, environment }, signal, sink);
  return {
    ...opened.context,
    print,
    close: async () => {
      await opened.close();
      command.close();
    },
  };
}
