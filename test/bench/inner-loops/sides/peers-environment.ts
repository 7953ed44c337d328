/**
 * The Python environment of the peers. It is created once in the user's cache with pinned versions,
 * and reused as long as the versions stay the same.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatFailure, QianmoError } from '../../../../shared/base/errors.js';
import { peerScript } from './sides.js';

const INSTALL_TIMEOUT_MS = 30 * 60_000;

interface PeersRoom {
  /** A Python with the peers installed. */
  readonly python: string;
  /** The cache folder of torch.compile, removed afterwards. */
  readonly compileCache: string;
}

/**
 * Runs a bench against the peers. Reports a missing requirement and sets the exit code.
 *
 * @param given a Python with the peers installed; by default one is created in the cache.
 */
export async function withPeers(
  given: string | undefined,
  bench: (room: PeersRoom) => Promise<void>,
): Promise<void> {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'qianmo');
  const compileCache = mkdtempSync(join(tmpdir(), 'qianmo-compiled-'));
  try {
    const python = given ?? peersPython(join(cache, 'peers'), (text) => console.log(text));
    await bench({ python, compileCache });
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    console.error(formatFailure(error));
    process.exitCode = error.exitCode;
  } finally {
    rmSync(compileCache, { recursive: true, force: true });
  }
}

/**
 * The path of a Python with the peers installed.
 *
 * @throws QianmoError of kind `environment` when there is no Python, or it cannot install them.
 */
function peersPython(cacheFolder: string, say: (text: string) => void): string {
  const requirements = peerScript('requirements.txt');
  const digest = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12);
  const folder = join(cacheFolder, `peers-${digest}`);
  const python = join(folder, 'bin', 'python');
  // Written last, so an interrupted installation has none.
  const finished = join(folder, 'complete');
  if (existsSync(finished)) return python;
  say(`installing the peers of ${requirements} into ${folder} (PyTorch takes about 2 GB)`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(cacheFolder, { recursive: true });
  run('python3', ['-m', 'venv', folder], 'python3 -m venv cannot create an environment');
  const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
  run(python, [...install, '-r', requirements], 'pip cannot install the peers');
  writeFileSync(finished, readFileSync(requirements));
  return python;
}

function run(command: string, args: readonly string[], what: string): void {
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
        'environment with the peers: npm run bench:peers -- --python PATH',
      cause,
    });
  }
}
