/** Compares a learned update rule with tuned baselines over logs, row by row in order of time. */

import { tmpdir } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import type { z } from 'zod';
import { isInterruption, QianmoError, type FailureKind } from '../../shared/base/errors.js';
import type { EventKind } from '../../shared/events/run-events.js';
import type { StreamConfig } from '../../shared/config/stream-config.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { comparisonRecord } from '../reports/rule-comparison-document.js';
import { comparisonSettingsOf } from '../streaming/comparison-settings.js';
import { computeInProcess, type GradientComputer } from '../streaming/meta-training.js';
import { queuedGradients } from '../streaming/queued-gradients.js';
import { compareRules, type RuleComparison } from '../streaming/rule-comparison.js';
import { readStreamLog } from '../streaming/stream-log.js';
import { streamConfigOf } from './config-sources.js';
import { dispatchForRun, isOverQueue, type DispatchChoice } from './dispatch-for-run.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import type { StreamRequestSchema } from './requests.js';
import type { RunContext } from './call/run-context.js';
import { joinAddress } from './run-files.js';

/** Reading the logs may end in a refusal, which leaves no log of events. */
const BEGINNINGS: ReadonlySet<EventKind> = new Set(['rule-tuned']);
/** The cures that failures of a dispatcher advise. */
const RESUMING = 'continue with --resume';

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
  const call = { ...loggedCallOf('stream', config), beginnings: BEGINNINGS };
  return loggedRun(call, context, (logged) => streamed(config, request, logged));
}

async function streamed(
  config: StreamConfig,
  choice: DispatchChoice,
  context: RunContext,
): Promise<StreamResult> {
  const { sink, signal } = context;
  const objectStoreOf = (address: string): ObjectStore =>
    openObjectStore(address, s3OptionsOf(config.storage));
  const rows = await readStreamLog(config, {
    sink,
    signal,
    objectStoreOf,
    temporaryFolder: tmpdir(),
  });
  const settings = comparisonSettingsOf(config, rows);
  // Gradients of a rule need no TensorFlow, so a process that loads it would be a loss unless it is asked for.
  const isHere = choice.processes === undefined && !isOverQueue(config, choice);
  const compute = isHere ? computeInProcess : await dispatchedComputer(config, choice, context);
  const pause = (): Promise<void> => demandGoingOn(signal);
  const comparison = await compareRules(rows, settings, {
    onTuned: sink,
    pause,
    compute: async (...job) => {
      await pause();
      return compute(...job);
    },
  });
  const record = { run: config.run, seed: config.seed, ...comparisonRecord(comparison) };
  const bytes = Buffer.from(`${JSON.stringify(record, null, 1)}\n`);
  await objectStoreOf(config.output).put('stream.json', bytes, { kind: 'always' });
  sink({ kind: 'report-written', address: joinAddress(config.output, 'stream.json') });
  return { comparison, record };
}

async function dispatchedComputer(
  config: StreamConfig,
  choice: DispatchChoice,
  context: RunContext,
): Promise<GradientComputer> {
  const { dispatcher } = await dispatchForRun(
    config,
    { runId: config.run, mayTrain: false },
    choice,
    context,
  );
  const { run: runId, compute, queue } = config;
  const { signal } = context;
  const onQueue = queuedGradients({ dispatcher, runId, compute, queue, signal });
  return async (...job) => {
    try {
      return await onQueue(...job);
    } catch (error) {
      throw withoutResume(error);
    }
  };
}

/** A stream has no checkpoints: it is not continued but run again. */
function withoutResume(error: unknown): unknown {
  if (isInterruption(error)) return interrupted(error.kind);
  if (!(error instanceof QianmoError)) return error;
  const { cure, ...report } = error.report;
  if (cure?.includes(RESUMING) !== true) return error;
  return new QianmoError({ ...report, cure: cure.replace(RESUMING, 'run the stream again') });
}

/** Yields to the event loop, so that an abort and messages of workers can arrive between two computations. */
async function demandGoingOn(signal: AbortSignal): Promise<void> {
  await setImmediate();
  if (signal.aborted) throw interrupted();
}

function interrupted(kind: FailureKind = 'interrupted'): QianmoError {
  return new QianmoError({
    kind,
    what: 'the stream was stopped on request; no result was written',
    cure: 'run it again from the beginning',
  });
}
