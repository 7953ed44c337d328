/**
 * Compute processes that `train` starts before its own code is loaded and its config is read, because they take longest to
 * be ready. Each is taken by the call that would start one like it, or ended. This file imports little.
 */

import { numericalEnvironment } from '../../worker/compute/device/numerical-environment.js';
import { computeEnvironment } from '../../worker/compute/device/visible-gpus.js';
import { forkedEntry, type ForkedEntry } from '../../worker/process/forked-entry.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** The environment of the processes below, as text. */
let startedIn = '';
let compute: ForkedEntry[] = [];

/** Starts what this command line will need, if the config is as most are: for any device, and not portable. */
export function startAhead(words: readonly string[], environment: Environment): void {
  if (words[0] !== 'train' || words.some((word) => /^(--help|-h|--plugin(=.*)?)$/.test(word)))
    return;
  startedIn = JSON.stringify(environment);
  const count = processesIn(words) ?? (isQueueNamed(words, environment) ? 0 : 1);
  compute = Array.from({ length: count }, () =>
    forkedEntry({
      environment: numericalEnvironment(computeEnvironment(environment, 'auto', undefined), false),
      ...{ pluginArguments: [], backend: 'auto' },
    }),
  );
}

/** A process of the default device that nobody has taken yet; the process is ended if it is not as demanded. */
export function takeComputeAhead(isDefault: boolean, environment: Environment): ForkedEntry | null {
  const taken = compute.shift();
  if (taken === undefined) return null;
  if (isDefault && JSON.stringify(environment) === startedIn) return taken;
  taken.process.kill('SIGKILL');
  return null;
}

/** Ends the processes that nobody has taken. */
export function endComputeAhead(): void {
  for (const each of compute) each.process.kill('SIGKILL');
  compute = [];
}

/** Whether workers will compute. A config that names a queue is not read yet. */
function isQueueNamed(words: readonly string[], { QIANMO_REDIS_URL: redis }: Environment): boolean {
  return (redis ?? '') !== '' || words.some((word) => /^--(workers|redis)(=|$)/.test(word));
}

function processesIn(words: readonly string[]): number | null {
  const index = words.findIndex((word) => /^--processes(=|$)/.test(word));
  const text = words[index]?.split('=')[1] ?? words[index + 1];
  return index >= 0 && text !== undefined && /^\d{1,3}$/.test(text) ? Number(text) : null;
}
