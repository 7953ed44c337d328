/** Command lines of `infra/deploy` with places of one machine, for those that run them as processes. */

import { join } from 'node:path';

const VERBS_OF_A_CONFIG = ['prepare', 'train', 'evaluate', 'export', 'refresh'];

/**
 * The words with the value of each option that is a place or a name replaced. The folder has `run.yaml`, `later.csv`,
 * `policy.yaml` and `token`; store, output and all else are below its `data`.
 */
export function placedWords(words: readonly string[], folder: string): string[] {
  const values: Readonly<Record<string, string>> = {
    '--store-allow': join(folder, 'data'),
    '--bundle': join(folder, 'data/run/bundles'),
    '--token-file': join(folder, 'token'),
    '--cache': join(folder, 'data/cache'),
    '--state': join(folder, 'data/state'),
    '--rows': join(folder, 'data/rows'),
    '--explore': join(folder, 'policy.yaml'),
    '--logs': join(folder, 'later.csv'),
    '--port': '0',
    '--metrics-port': '0',
    '--metrics-host': '127.0.0.1',
    '--name': 'worker-1',
  };
  const placed = words.map((word, index) => values[words[index - 1] ?? ''] ?? word);
  const [verb = ''] = placed;
  return VERBS_OF_A_CONFIG.includes(verb)
    ? [verb, join(folder, 'run.yaml'), ...placed.slice(2)]
    : placed;
}
