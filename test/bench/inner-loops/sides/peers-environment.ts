/** The Python environment of the peers in a bench, and the cache of what they compile. */

import { withPython } from '../../python-environment.js';
import { peerScript } from './sides.js';
import { scratchFolder } from '../../scratch-folder.js';

interface PeersRoom {
  /** A Python with the peers installed. */
  readonly python: string;
  /** The cache folder of torch.compile, removed afterwards. */
  readonly compileCache: string;
}

/** @param given a Python with the peers installed; by default one is created in the cache. */
export function withPeers(
  given: string | undefined,
  bench: (room: PeersRoom) => Promise<void>,
): Promise<void> {
  const environment = {
    name: 'peers',
    requirements: peerScript('requirements.txt'),
    script: 'bench -- inner-loops',
  };
  return withPython(environment, given, async (python) => {
    const compileCache = scratchFolder('compiled');
    await bench({ python, compileCache });
  });
}
