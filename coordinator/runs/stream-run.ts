/** Compares a learned update rule with tuned baselines over logs, row by row in order of time. */

import { tmpdir } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import type { z } from 'zod';
import { QianmoError } from '../../shared/base/errors.js';
import type { EventKind } from '../../shared/events/run-events.js';
import type { StreamConfig } from '../../shared/config/stream-config.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { comparisonRecord } from '../reports/streaming/rule-comparison-table.js';
import { comparisonSettingsOf } from '../streaming/comparison-settings.js';
import { computeInProcess } from '../streaming/meta-training.js';
import { compareRules, type RuleComparison } from '../streaming/rule-comparison.js';
import { readStreamLog } from '../streaming/stream-log.js';
import { streamConfigOf } from './config-sources.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import type { StreamRequestSchema } from './requests.js';
import type { RunContext } from './call/run-context.js';
import { joinAddress } from './run-files.js';

/** Reading the logs may end in a refusal, which leaves no log of events. */
const BEGINNINGS: ReadonlySet<EventKind> = new Set(['rule-tuned']);

export interface StreamResult {
  readonly comparison: RuleComparison;
  /** The content of stream.json: plain values only. */
  readonly record: Readonly<Record<string, unknown>>;
}

export async function streamRun(
  request: z.output<typeof StreamRequestSchema>,
  context: RunContext,
): Promise<StreamResult> {
  const config = await streamConfigOf(request.config, context.environment);
  const call = { ...loggedCallOf(config), beginnings: BEGINNINGS };
  return loggedRun(call, context, (logged) => streamed(config, logged));
}

async function streamed(config: StreamConfig, { sink, signal }: RunContext): Promise<StreamResult> {
  const objectStoreOf = (address: string): ObjectStore =>
    openObjectStore(address, s3OptionsOf(config.storage));
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
  const bytes = Buffer.from(`${JSON.stringify(record, null, 1)}\n`);
  await objectStoreOf(config.output).put('stream.json', bytes, { kind: 'always' });
  sink({ kind: 'report-written', address: joinAddress(config.output, 'stream.json') });
  return { comparison, record };
}

/** Yields to the event loop, so that an abort can arrive between two computations. */
async function demandGoingOn(signal: AbortSignal): Promise<void> {
  await setImmediate();
  if (signal.aborted)
    throw new QianmoError({
      kind: 'interrupted',
      what: 'the stream was stopped on request; no result was written',
      cure: 'run it again from the beginning',
    });
}
