/** The Python environment of the peers in a bench, and the cache of what they compile. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatFailure, QianmoError } from '../../../../shared/base/errors.js';
import { installedPython } from '../../python-environment.js';
import { peerScript } from './sides.js';

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
  const compileCache = mkdtempSync(join(tmpdir(), 'qianmo-compiled-'));
  const environment = {
    name: 'peers',
    requirements: peerScript('requirements.txt'),
    script: 'bench -- inner-loops',
  };
  try {
    const python = given ?? installedPython(environment, (text) => console.log(text));
    await bench({ python, compileCache });
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    console.error(formatFailure(error));
    process.exitCode = error.exitCode;
  } finally {
    rmSync(compileCache, { recursive: true, force: true });
  }
}
