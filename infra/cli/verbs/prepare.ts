/** `qianmo prepare`: logs to a task store. */

import { tmpdir } from 'node:os';
import { z } from 'zod';
import { prepareTaskStore } from '../../../coordinator/prepare/prepare.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { StoreManifest } from '../../../shared/tasks/store-manifest.js';
import type { CommandContext } from '../command-context.js';
import { configReaderOf } from '../named-places.js';
import { parsedOptions } from '../usage-failure.js';
import { objectStoreOf } from '../run-files.js';

const OptionsSchema = z.object({
  force: z.boolean().default(false),
  format: z.enum(['table', 'json']),
});

export async function prepareVerb(
  path: string,
  rawOptions: unknown,
  context: CommandContext,
): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'prepare');
  const config = await loadRunConfig(path, configReaderOf(context.environment));
  const manifest = await prepareRun(config, options.force, context);
  context.print(
    options.format === 'json'
      ? JSON.stringify({ store: config.data.store, ...manifest, files: undefined })
      : describeStore(config, manifest),
  );
}

export function prepareRun(
  config: RunConfig,
  force: boolean,
  context: CommandContext,
): Promise<StoreManifest> {
  return prepareTaskStore(config, {
    force,
    clock: context.clock,
    sink: context.sink,
    signal: context.signal,
    objectStoreOf: (address) => objectStoreOf(config, address),
    temporaryFolder: tmpdir(),
  });
}

export function describeStore(config: RunConfig, manifest: StoreManifest): string {
  const { train, validation, test } = manifest.taskCountBySplit;
  const count = (value: number): string => value.toLocaleString('en');
  return [
    `task store ${config.data.store}`,
    `  tasks:    ${count(manifest.taskCount)} (${count(train)} train, ${count(validation)} validation, ${count(test)} test)`,
    `  rows:     ${count(manifest.rowCount)}, rejected ${count(manifest.rejectedRowCount)}`,
    `  features: ${manifest.features.map((f) => ('rowCount' in f ? `${f.name} (${count(f.rowCount)} ids)` : f.name)).join(', ')}`,
  ].join('\n');
}
