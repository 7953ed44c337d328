/**
 * The fork of a compute process, and what happens to it before anybody listens. It imports little, so
 * that a worker forks first and loads its own code while the compute process loads TensorFlow.
 */

import { fork, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { errorOf } from '../../shared/base/errors.js';
import type { BackendChoice } from '../compute/engine/native-backend.js';

interface EntryTerms {
  /** The compiled entry to fork; tests replace it with one that misbehaves. */
  readonly entry?: string | undefined;
  /** The whole environment of the process. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The arguments that name the plugins to load. */
  readonly pluginArguments: readonly string[];
  /** The backend that the start request will name. */
  readonly backend: BackendChoice;
}

interface ForkListeners {
  onMessage(message: unknown): void;
  onError(error: Error): void;
  onExit(code: number | null, signal: NodeJS.Signals | null): void;
}

export interface ForkedEntry {
  readonly process: ChildProcess;
  /** Tells the listeners, soon, what has happened so far, and then what happens. Called once. */
  listen(listeners: ForkListeners): void;
}

/** @throws QianmoError `environment` if the entry is not compiled. */
export function forkedEntry({
  entry = compiledEntry(),
  environment,
  pluginArguments,
  backend,
}: EntryTerms): ForkedEntry {
  if (!existsSync(entry))
    throw errorOf('environment', 'the compute process is not built', {
      where: entry,
      cure: 'run: npm run build',
    });
  const forked = fork(entry, ['--backend', backend, ...pluginArguments], {
    serialization: 'advanced',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...environment },
  });
  const early: ((to: ForkListeners) => void)[] = [];
  let listeners: ForkListeners | null = null;
  const tell = (event: (to: ForkListeners) => void): void => {
    if (listeners === null) early.push(event);
    else event(listeners);
  };
  forked.on('message', (message) => tell((to) => to.onMessage(message)));
  forked.on('error', (error) => tell((to) => to.onError(error)));
  forked.once('exit', (code, signal) => tell((to) => to.onExit(code, signal)));
  return {
    process: forked,
    listen: (to) =>
      queueMicrotask(() => {
        listeners = to;
        for (const event of early.splice(0)) event(to);
      }),
  };
}

/** The entry compiled to `dist/`, also when this file runs as TypeScript source. */
function compiledEntry(): string {
  const here = import.meta.url;
  const relative = here.endsWith('.ts')
    ? '../../dist/worker/compute/job/main.js'
    : '../compute/job/main.js';
  return fileURLToPath(new URL(relative, here));
}
