/** The config of the demo: the MovieLens example, with its files found from any folder. */

import { fileURLToPath } from 'node:url';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { packageRoot } from '../package-root.js';

export const DEMO_EXAMPLE = 'infra/examples/movielens.yaml';
/** The output of the example, so that the other verbs find there what the demo has made. */
export const DEMO_OUT_DEFAULT = 'runs/movielens';

/** @param out takes the task store, the checkpoints and the reports */
export async function demoConfig(out: string): Promise<RunConfig> {
  const config = await loadRunConfig(fileURLToPath(new URL(DEMO_EXAMPLE, packageRoot)));
  const logs = [config.data.logs].flat().map((log) => fileURLToPath(new URL(log, packageRoot)));
  const store = `${out.replace(/\/+$/, '')}/store`;
  return { ...config, output: out, data: { ...config.data, logs, store } };
}
