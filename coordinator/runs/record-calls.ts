/** Calls that read the records of runs: status, list, log, and waiting for the end. They change nothing. */

import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { stat } from 'node:fs/promises';
import {
  type QianmoError,
  isInterruptionKind,
  type FailureKind,
  errorOf,
} from '../../shared/base/errors.js';
import { sentenceOf, type StampedEvent } from '../../shared/events/run-events.js';
import { s3OptionsOf } from '../../shared/storage/open-object-store.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';
import { findRecords } from '../record/find-records.js';
import { RecordFollower, RunRecord } from '../record/run-record.js';
import { isUnderWay, readRunStatus, type RunStatus } from '../record/run-status.js';
import type { RunContext, Environment } from './run-context.js';
import type { CallOptions } from './run-handle.js';
import { configOf, s3OptionsIn, searchOutputOf, objectStoreAt } from './places.js';
import type { RequestOf } from './requests.js';
import { type ObjectStore, joinAddress } from '../../shared/storage/object-store.js';
import {
  compareRuns,
  ComparisonReportSchema,
  type ComparisonReport,
  parseRunArgument,
  readEvaluatedRun,
} from '../scoring/compare-runs.js';
import { comparisonDocument } from '../reports/comparison-document.js';
import { asPage } from '../reports/document/as-page.js';
import { loggedRun } from './logged-run.js';
import { objectStoreOf } from './run-files.js';

/** The end of a log that tells whether a call is under way. */
const END_BYTE_COUNT = 256 * 1024;
const POLL_INTERVAL_MS = 1_000;
const RUN_COUNT_MAX = 10_000;

type Reading = Pick<RunContext, 'clock' | 'environment' | 'signal'>;

/** @throws QianmoError `usage` if there is no record. */
export async function statusOfRun(
  { run }: RequestOf<'status'>,
  context: Reading,
): Promise<RunStatus> {
  const record = await recordOfRun(run, context);
  return statusAt(record, context);
}

export interface ListedRuns {
  /** The latest first. */
  readonly runs: readonly RunStatus[];
  /** There are more than are listed, or more folders than were looked into. */
  readonly isCut: boolean;
}

/** @throws QianmoError `usage` if a folder is not there. */
export async function listRuns(
  { folders }: RequestOf<'runs'>,
  context: Reading,
): Promise<ListedRuns> {
  const outputs: string[] = [];
  const s3 = s3OptionsIn(context.environment);
  let isCut = false;
  for (const folder of folders) {
    if (!folder.startsWith('s3://')) await requireFolder(folder);
    const found = await findRecords(folder, s3);
    outputs.push(...found.outputs.map(({ output }) => output));
    isCut ||= found.isCut;
  }
  const runs: RunStatus[] = [];
  const observer = { nowMs: context.clock.epochMs() };
  for (const output of outputs.slice(0, RUN_COUNT_MAX)) {
    context.signal.throwIfAborted();
    const status = await readRunStatus(new RunRecord(output, s3), observer);
    if (status !== null) runs.push(status);
  }
  runs.sort((a, b) => (b.lastEventMs ?? 0) - (a.lastEventMs ?? 0));
  return { runs, isCut: isCut || outputs.length > RUN_COUNT_MAX };
}

/**
 * Tells the events of the record in their order.
 *
 * @throws QianmoError `usage` if there is no record.
 */
export async function tellLog(
  { run, follow, last, details }: RequestOf<'log'>,
  context: Reading,
  { onEvent: tell = () => undefined }: Pick<CallOptions, 'onEvent'>,
): Promise<RunStatus> {
  const record = await recordOfRun(run, context);
  const follower = new RecordFollower(record);
  const toldSince = async (): Promise<StampedEvent[]> => {
    const events: StampedEvent[] = [];
    for await (const part of follower.parts()) for (const event of part.events) events.push(event);
    return events.filter((event) => details || sentenceOf(event).level !== 'detail');
  };
  const events = await toldSince();
  for (const event of last === undefined ? events : events.slice(-last)) tell(event);
  for (;;) {
    // The state is read before the events: none is missed that came before the end.
    const status = await statusAt(record, context, [END_BYTE_COUNT]);
    for (const event of await toldSince()) tell(event);
    if (!follow || !isUnderWay(status.state)) return status;
    await context.clock.sleep(POLL_INTERVAL_MS, context.signal);
    context.signal.throwIfAborted();
  }
}

/**
 * Resolves when the run has finished.
 *
 * @throws QianmoError of the kind that the run ended with; `interrupted` if it is lost; `transient` if it is
 *   still under way after the time limit.
 */
export async function waitForRun(
  { run, timeoutSeconds }: RequestOf<'wait'>,
  context: Reading,
): Promise<RunStatus> {
  const { clock, signal } = context;
  const record = await recordOfRun(run, context);
  const untilMs = clock.monotonicMs() + (timeoutSeconds ?? Infinity) * 1_000;
  for (;;) {
    const status = await statusAt(record, context, [END_BYTE_COUNT]);
    if (!isUnderWay(status.state)) return finishedOrThrown(status);
    if (clock.monotonicMs() >= untilMs) throw stillUnderWay(status, timeoutSeconds ?? 0);
    await clock.sleep(POLL_INTERVAL_MS, signal);
    signal.throwIfAborted();
  }
}

/** The record of the run, or of the search below its output if that has told more lately. */
async function recordOfRun(run: string, context: Reading): Promise<RunRecord> {
  const { output, s3 } = await outputOfRun(run, context);
  const own = new RunRecord(output, s3);
  const search = new RunRecord(searchOutputOf(output), s3);
  const [ownMs, searchMs] = [
    await lastEventMsIn(own, context),
    await lastEventMsIn(search, context),
  ];
  return searchMs > ownMs ? search : own;
}

/** -1 without a record. */
async function lastEventMsIn(record: RunRecord, { clock }: Reading): Promise<number> {
  const status = await readRunStatus(record, { nowMs: clock.epochMs() }, [END_BYTE_COUNT]);
  return status?.lastEventMs ?? -1;
}

async function outputOfRun(
  run: string,
  { environment }: Reading,
): Promise<{ readonly output: string; readonly s3: S3Options }> {
  if (!/\.ya?ml$/.test(run)) return { output: run, s3: s3OptionsIn(environment) };
  const { output, storage } = await configOf(RUN_CONFIG, run, environment);
  return { output, s3: s3OptionsOf(storage) };
}

/** @param byteCounts as for `readView` */
async function statusAt(
  record: RunRecord,
  { clock }: Reading,
  byteCounts?: readonly number[],
): Promise<RunStatus> {
  const status = await readRunStatus(record, { nowMs: clock.epochMs() }, byteCounts);
  if (status !== null) return status;
  throw errorOf('usage', 'there is no record of a run', {
    where: record.address,
    expected: "the output of a run that has begun: a folder or s3:// prefix, or the run's config",
    found: 'no events',
    cure: '`qianmo runs FOLDER` lists the runs below a folder',
  });
}

async function requireFolder(folder: string): Promise<void> {
  const isFolder = await stat(folder).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isFolder) return;
  throw errorOf('usage', 'this folder cannot be looked into', {
    where: folder,
    expected: 'a folder that holds outputs of runs',
    cure: 'name the folder of `output` in your configs; runs in a bucket are named one by one',
  });
}

function finishedOrThrown(status: RunStatus): RunStatus {
  const { ending, output, state, run } = status;
  if (state === 'finished') return status;
  const name = run === null ? 'the run' : `run ${run}`;
  if (ending?.kind !== 'failed')
    throw errorOf('interrupted', `${name} is lost: its process has ended without a word`, {
      where: output,
      cure: 'look at the end of `qianmo logs`, and continue it with `qianmo train --resume`',
    });
  throw errorOf(failureKindOf(ending.failure), `${name} ended: ${ending.reason}`, {
    where: output,
    cure: isInterruptionKind(ending.failure)
      ? 'continue it with `qianmo train --resume`'
      : '`qianmo logs` tells what happened before',
  });
}

/** A bug, and a wrong config that was found late, are failures of the run to whoever waits for it. */
function failureKindOf(failure: string): FailureKind {
  const kinds = ['interrupted', 'cancelled', 'environment', 'transient', 'taken'] as const;
  return kinds.find((kind) => kind === failure) ?? 'failed';
}

function stillUnderWay({ output, state }: RunStatus, timeoutSeconds: number): QianmoError {
  return errorOf('transient', 'the run has not ended within the time limit', {
    where: output,
    expected: `its end within ${timeoutSeconds} s`,
    found: state,
    cure: 'wait again, with a larger --timeout-seconds or none',
  });
}

type CompareOrder = RequestOf<'compare'>;

/** The page, the JSON and the log of events are written when the request says where to. */
export async function compareEvaluated(
  request: CompareOrder,
  context: RunContext,
): Promise<ComparisonReport> {
  const { out } = request;
  if (out === undefined) return compare(request, context);
  const logged = { call: 'compare', run: null, output: out, s3: s3OptionsIn(context.environment) };
  return loggedRun(logged, context, (inner) => compare(request, inner));
}

async function compare(
  { runs, out, sizeBucketEdges, segment }: CompareOrder,
  { environment, sink, signal }: RunContext,
): Promise<ComparisonReport> {
  const chosen: Parameters<typeof compareRuns>[0][number][] = [];
  for (const text of runs) {
    signal.throwIfAborted();
    const { run, arm } = parseRunArgument(text);
    const store = await storeOfRun(run, environment);
    chosen.push({ evaluated: await readEvaluatedRun(store, segment ?? null), arm });
  }
  signal.throwIfAborted();
  const report = compareRuns(chosen, sizeBucketEdges);
  if (out === undefined) return report;
  const folder = objectStoreAt(out, environment);
  const json = Buffer.from(`${JSON.stringify(ComparisonReportSchema.parse(report), null, 2)}\n`);
  await folder.put('comparison.json', json, { kind: 'always' });
  await folder.put('comparison.html', Buffer.from(asPage(comparisonDocument(report))), {
    kind: 'always',
  });
  sink({ kind: 'report-written', address: joinAddress(out, 'comparison.html') });
  return report;
}

/** A config names the output of its run, and how to reach it. */
async function storeOfRun(run: string, environment: Environment): Promise<ObjectStore> {
  if (!/\.ya?ml$/.test(run)) return objectStoreAt(run, environment);
  const config = await configOf(RUN_CONFIG, run, environment);
  return objectStoreOf(config, config.output);
}
