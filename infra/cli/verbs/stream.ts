/** `qianmo stream`: a learned update rule against tuned baselines over logs, row by row. */

import { tmpdir } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import { comparisonSettingsOf } from '../../../coordinator/streaming/comparison-settings.js';
import {
  comparisonLines,
  comparisonRecord,
} from '../../../coordinator/reports/streaming/rule-comparison-table.js';
import { computeInProcess } from '../../../coordinator/streaming/meta-training.js';
import { compareRules } from '../../../coordinator/streaming/rule-comparison.js';
import { readStreamLog } from '../../../coordinator/streaming/stream-log.js';
import { loadStreamConfig } from '../../../shared/config/load-run-config.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { openObjectStore, s3OptionsOf } from '../../../shared/storage/open-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import type { CommandContext } from '../command-context.js';
import { configReaderOf } from '../named-places.js';
import { joinAddress } from '../run-files.js';
import { parsedOptions } from '../usage-failure.js';

const OptionsSchema = z.object({ format: z.enum(['table', 'json']) });

export async function streamVerb(
  path: string,
  rawOptions: unknown,
  context: CommandContext,
): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'stream');
  const config = await loadStreamConfig(path, configReaderOf(context.environment));
  const objectStoreOf = (address: string): ObjectStore =>
    openObjectStore(address, s3OptionsOf(config.storage));
  const { sink, signal } = context;
  const rows = await readStreamLog(config, {
    sink,
    signal,
    objectStoreOf,
    temporaryFolder: tmpdir(),
  });
  const comparison = await compareRules(rows, comparisonSettingsOf(config, rows), {
    onTuned: async (tuned) => {
      sink(tuned);
      await demandGoingOn(signal);
    },
    compute: async (...job) => {
      await demandGoingOn(signal);
      return computeInProcess(...job);
    },
  });
  const record = { run: config.run, seed: config.seed, ...comparisonRecord(comparison) };
  const printed =
    options.format === 'json' ? JSON.stringify(record) : comparisonLines(comparison).join('\n');
  const bytes = Buffer.from(`${JSON.stringify(record, null, 1)}\n`);
  await objectStoreOf(config.output).put('stream.json', bytes, { kind: 'always' });
  sink({ kind: 'report-written', address: joinAddress(config.output, 'stream.json') });
  context.print(printed);
}

/** Lets signals arrive between two stretches of computing. */
async function demandGoingOn(signal: AbortSignal): Promise<void> {
  await setImmediate();
  if (signal.aborted)
    throw new QianmoError({
      kind: 'interrupted',
      what: 'stream was stopped on request; nothing was written',
      cure: 'run it again to start anew',
    });
}
