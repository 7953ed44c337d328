/** The fork of a compute process. */

import { fork, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { errorOf } from '../../shared/base/errors.js';

interface EntryTerms {
  /** The compiled entry to fork; tests replace it with one that misbehaves. */
  readonly entry?: string | undefined;
  /** The whole environment of the process. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The arguments that name the plugins to load. */
  readonly pluginArguments: readonly string[];
}

/** @throws QianmoError `environment` if the entry is not compiled. */
export function forkedEntry({
  entry = compiledEntry(),
  environment,
  pluginArguments,
}: EntryTerms): ChildProcess {
  if (!existsSync(entry))
    throw errorOf('environment', 'the compute process is not built', {
      where: entry,
      cure: 'run: npm run build',
    });
  return fork(entry, [...pluginArguments], {
    serialization: 'advanced',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...environment },
  });
}

/** The entry compiled to `dist/`, also when this file runs as TypeScript source. */
function compiledEntry(): string {
  const here = import.meta.url;
  const relative = here.endsWith('.ts')
    ? '../../dist/worker/compute/job/main.js'
    : '../compute/job/main.js';
  return fileURLToPath(new URL(relative, here));
}
