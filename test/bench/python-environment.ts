/**
 * Python environments of benches, created once in the user's cache with pinned versions, and reused as
 * long as the versions stay the same.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { formatFailure, QianmoError } from '../../shared/base/errors.js';

const INSTALL_TIMEOUT_MS = 30 * 60_000;

/** The folder of the user's cache that belongs to the project. */
function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'qianmo');
}

interface PythonEnvironment {
  /** Begins the name of its folder. */
  readonly name: string;
  /** The path of a requirements file with pinned versions. */
  readonly requirements: string;
  /** The words after `npm run` of the command that takes `--python`. */
  readonly script: string;
  /** Its size on disk, for the message. */
  readonly size?: string;
}

/**
 * Runs a bench with the path of a Python that has the packages. Reports a missing requirement and sets the exit code.
 *
 * @param given a Python with the packages; by default one is created in the cache.
 */
export async function withPython(
  environment: PythonEnvironment,
  given: string | undefined,
  bench: (python: string) => Promise<void>,
): Promise<void> {
  try {
    await bench(given ?? installedPython(environment));
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    process.stderr.write(`${formatFailure(error)}\n`);
    process.exitCode = error.exitCode;
  }
}

/** @throws QianmoError of kind `environment` when there is no Python, or it cannot install the packages. */
function installedPython({
  name,
  requirements,
  script,
  size = '2 GB, for PyTorch',
}: PythonEnvironment): string {
  const digest = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12);
  const folder = join(cacheFolder(), 'peers', `${name}-${digest}`);
  const python = join(folder, 'bin', 'python');
  // Written last, so an interrupted installation has none.
  const finished = join(folder, 'complete');
  if (existsSync(finished)) return python;
  process.stderr.write(`installing ${requirements} into ${folder} (about ${size})\n`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(cacheFolder(), 'peers'), { recursive: true });
  const run = (command: string, args: readonly string[], what: string): void => {
    runToInstall(command, args, { what, script });
  };
  run('python3', ['-m', 'venv', folder], 'python3 -m venv cannot create an environment');
  const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
  run(python, [...install, '-r', requirements], 'pip cannot install the peers');
  writeFileSync(finished, readFileSync(requirements));
  return python;
}

function runToInstall(
  command: string,
  args: readonly string[],
  { what, script }: { readonly what: string; readonly script: string },
): void {
  try {
    execFileSync(command, args, {
      stdio: ['ignore', 'inherit', 'inherit'],
      timeout: INSTALL_TIMEOUT_MS,
    });
  } catch (cause) {
    throw new QianmoError({
      kind: 'environment',
      what,
      found: cause instanceof Error ? cause.message : String(cause),
      expected: 'Python 3.11 or newer with venv and pip, and a reachable package index',
      cure:
        'on Debian and Ubuntu: apt-get install python3 python3-venv python3-pip; or pass an ' +
        `environment with the peers: npm run ${script} --python PATH`,
      cause,
    });
  }
}
