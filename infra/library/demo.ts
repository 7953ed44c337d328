/** The demo: one command from a log to a served model, on the data that ships with the package. */

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StartedModel } from '../../coordinator/reports/start-document.js';
import { startRun, type CallOptions } from '../../coordinator/runs/run-handle.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { loadConfig, yamlOf } from '../../shared/config/yaml-file.js';
import { packageRoot } from './package-root.js';
import { startFromConfig } from './start.js';
import { surroundingsOf } from './verb.js';

const DEMO_EXAMPLE = 'infra/examples/movielens.yaml';

/** Films stand in for adgroups, and ratings of 4 or more for clicks. A search chooses the model, so the example's own is left out. */
export async function runDemo(out: string, options: CallOptions): Promise<StartedModel> {
  const { run, seed, data, output } = await demoConfig(out);
  const config = join(output, 'auto.yaml');
  const store = join(output, 'auto', 'store');
  await mkdir(output, { recursive: true });
  const ofData = { run: `${run}-auto`, seed, data: { ...data, store }, auto: {}, output };
  await writeFile(config, yamlOf(ofData));
  // A plain model would take a fifth of the time, and the example's own evaluation has one.
  const start = { config, hasPlain: false, nameColumn: 'title' };
  return startRun(surroundingsOf(options), options, (context) =>
    startFromConfig(start, context, options),
  );
}

/**
 * The config of the MovieLens example, with its files found from any folder.
 *
 * @param out takes the task store, the checkpoints and the reports
 */
export async function demoConfig(out: string): Promise<RunConfig> {
  const config = await loadConfig(RUN_CONFIG, fileURLToPath(new URL(DEMO_EXAMPLE, packageRoot)));
  const logs = [config.data.logs].flat().map((log) => fileURLToPath(new URL(log, packageRoot)));
  const store = `${out.replace(/\/+$/, '')}/store`;
  return { ...config, output: out, data: { ...config.data, logs, store } };
}
