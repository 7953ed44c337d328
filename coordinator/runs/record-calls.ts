/** Calls that read the records of runs: status, list, log, and waiting for the end. They change nothing. */

import { stat } from 'node:fs/promises';
import type { z } from 'zod';
import { isInterruptionKind, QianmoError, type FailureKind } from '../../shared/base/errors.js';
import { sentenceOf, type StampedEvent } from '../../shared/events/run-events.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';
import { readRunHistory } from '../record/history/run-history.js';
import { findRecords, findRecordsInBucket } from '../record/find-records.js';
import { ListedRun } from '../record/listed-view.js';
import { RecordFollower } from '../record/read-record.js';
import { recordPlaceOf, type RecordPlace } from '../record/record-place.js';
import { isUnderWay, observerAt } from '../record/run-state.js';
import { readRunStatus, runStatusOf, type RunStatus } from '../record/run-status.js';
import type { RunContext } from './run-context.js';
import type { CallOptions } from './run-handle.js';
import { runConfigOf } from './config-sources.js';
import { s3OptionsIn, searchOutputOf } from './places.js';
import type {
  LogRequestSchema,
  RunsRequestSchema,
  StatusRequestSchema,
  WaitRequestSchema,
} from './requests.js';

/** The end of a log that tells whether a call is under way. */
const END_BYTE_COUNT = 256 * 1024;
/**
 * Lengths of the ends of a log from which a status is made, each read only if the one before tells too little: for hours, the log of a
 * run that is paused, or whose outer steps are long, may say only that it lives.
 */
const STATUS_BYTE_COUNTS = [END_BYTE_COUNT, 16 * 1024 * 1024];
const POLL_INTERVAL_MS = 1_000;
const RUN_COUNT_MAX = 10_000;

type Reading = Pick<RunContext, 'clock' | 'environment' | 'signal'>;

/** @throws QianmoError `usage` if there is no record. */
export async function statusOfRun(
  { run }: z.output<typeof StatusRequestSchema>,
  context: Reading,
): Promise<RunStatus> {
  const { place } = await placeOfRun(run, context);
  return statusAt(place, context, STATUS_BYTE_COUNTS);
}

export interface ListedRuns {
  /** The latest first. */
  readonly runs: readonly RunStatus[];
  /** There are more than are listed, or more folders than were looked into. */
  readonly isCut: boolean;
}

/** @throws QianmoError `usage` if a folder is not there. */
export async function listRuns(
  { folders }: z.output<typeof RunsRequestSchema>,
  context: Reading,
): Promise<ListedRuns> {
  const outputs: string[] = [];
  let isCut = false;
  for (const folder of folders) {
    if (folder.startsWith('s3://')) {
      const prefix = folder.replace(/\/+$/, '');
      const store = openObjectStore(prefix, s3OptionsIn(context.environment));
      const found = await findRecordsInBucket(store);
      outputs.push(...found.outputs.map((below) => (below === '' ? prefix : `${prefix}/${below}`)));
      isCut ||= found.isCut;
    } else {
      await demandFolder(folder);
      const found = await findRecords(folder);
      outputs.push(...found.outputs);
      isCut ||= found.isCut;
    }
  }
  const runs: RunStatus[] = [];
  const observer = observerAt(context.clock.epochMs());
  for (const output of outputs.slice(0, RUN_COUNT_MAX)) {
    context.signal.throwIfAborted();
    const place = recordPlaceOf(output, s3OptionsIn(context.environment));
    if ((await place.version()) === null) continue;
    const { view, unknownCount } = await ListedRun.of(place);
    runs.push(runStatusOf(view, place.address, unknownCount, observer));
  }
  runs.sort((a, b) => (b.lastEventMs ?? 0) - (a.lastEventMs ?? 0));
  return { runs, isCut: isCut || outputs.length > RUN_COUNT_MAX };
}

/**
 * The page of a run as one HTML file with everything inside.
 *
 * @throws QianmoError `usage` if there is no record.
 */
export async function runAsHtml(
  { run }: z.output<typeof StatusRequestSchema>,
  context: Reading,
): Promise<string> {
  const { place, s3 } = await placeOfRun(run, context);
  const status = await statusAt(place, context, STATUS_BYTE_COUNTS);
  const { filedPage } = await import('../dashboard/pages/page.js');
  const { runPage } = await import('../dashboard/pages/run-page.js');
  const checkpoints = openObjectStore(`${place.address}/checkpoints`, s3);
  const { settingsOf } = await import('../dashboard/catalog/run-settings.js');
  const settings = await settingsOf(checkpoints);
  return filedPage(
    runPage({ status, history: await readRunHistory(place) }, { key: '', settings }),
  );
}

/**
 * Tells the events of the record in their order.
 *
 * @throws QianmoError `usage` if there is no record.
 */
export async function tellLog(
  { run, follow, last, details }: z.output<typeof LogRequestSchema>,
  context: Reading,
  { onEvent: tell = () => undefined }: Pick<CallOptions, 'onEvent'>,
): Promise<RunStatus> {
  const { place } = await placeOfRun(run, context);
  const follower = new RecordFollower(place);
  const toldSince = async (): Promise<StampedEvent[]> =>
    (await follower.next()).events.filter(
      (event) => details || sentenceOf(event).level !== 'detail',
    );
  const events = await toldSince();
  for (const event of last === undefined ? events : events.slice(-last)) tell(event);
  for (;;) {
    // The state is read before the events: none is missed that came before the end.
    const status = await statusAt(place, context);
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
  { run, timeoutSeconds }: z.output<typeof WaitRequestSchema>,
  context: Reading,
): Promise<RunStatus> {
  const { clock, signal } = context;
  const { place } = await placeOfRun(run, context);
  const untilMs = clock.monotonicMs() + (timeoutSeconds ?? Infinity) * 1_000;
  for (;;) {
    const status = await statusAt(place, context);
    if (!isUnderWay(status.state)) return finishedOrThrown(status);
    if (clock.monotonicMs() >= untilMs) throw stillUnderWay(status, timeoutSeconds ?? 0);
    await clock.sleep(POLL_INTERVAL_MS, signal);
    signal.throwIfAborted();
  }
}

interface FoundPlace {
  readonly place: RecordPlace;
  readonly s3: S3Options;
}

/** The record of the run, or of the search below its output if that has told more lately. */
async function placeOfRun(run: string, context: Reading): Promise<FoundPlace> {
  const { output, s3 } = await outputOfRun(run, context);
  const own = recordPlaceOf(output, s3);
  const search = recordPlaceOf(searchOutputOf(output), s3);
  const [ownMs, searchMs] = [
    await lastEventMsAt(own, context),
    await lastEventMsAt(search, context),
  ];
  return { place: searchMs > ownMs ? search : own, s3 };
}

/** -1 without a record. */
async function lastEventMsAt(place: RecordPlace, { clock }: Reading): Promise<number> {
  const status = await readRunStatus(place, [END_BYTE_COUNT], observerAt(clock.epochMs()));
  return status?.lastEventMs ?? -1;
}

async function outputOfRun(
  run: string,
  { environment }: Reading,
): Promise<{ readonly output: string; readonly s3: S3Options }> {
  if (!/\.ya?ml$/.test(run)) return { output: run, s3: s3OptionsIn(environment) };
  const { output, storage } = await runConfigOf(run, environment);
  return { output, s3: s3OptionsOf(storage) };
}

async function statusAt(
  place: RecordPlace,
  { clock }: Reading,
  byteCounts: readonly number[] = [END_BYTE_COUNT],
): Promise<RunStatus> {
  const status = await readRunStatus(place, byteCounts, observerAt(clock.epochMs()));
  if (status !== null) return status;
  throw new QianmoError({
    kind: 'usage',
    what: 'there is no record of a run',
    where: place.address,
    expected: "the output of a run that has begun: a folder or s3:// prefix, or the run's config",
    found: 'no events',
    cure: '`qianmo runs FOLDER` lists the runs below a folder',
  });
}

async function demandFolder(folder: string): Promise<void> {
  const isFolder = await stat(folder).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isFolder) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'this folder cannot be looked into',
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
    throw new QianmoError({
      kind: 'interrupted',
      what: `${name} is lost: its process has ended without a word`,
      where: output,
      cure: 'look at the end of `qianmo logs`, and continue it with `qianmo train --resume`',
    });
  throw new QianmoError({
    kind: failureKindOf(ending.failure),
    what: `${name} ended: ${ending.reason}`,
    where: output,
    cure: isInterruptionKind(ending.failure)
      ? 'continue it with `qianmo train --resume`'
      : '`qianmo logs` tells what happened before',
  });
}

/** A bug, and a wrong config that was found late, are failures of the run to whoever waits for it. */
function failureKindOf(failure: string): FailureKind {
  return isInterruptionKind(failure) || failure === 'environment' || failure === 'transient'
    ? failure
    : 'failed';
}

function stillUnderWay({ output, state }: RunStatus, timeoutSeconds: number): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: 'the run has not ended within the time limit',
    where: output,
    expected: `its end within ${timeoutSeconds} s`,
    found: state,
    cure: 'wait again, with a larger --timeout-seconds or none',
  });
}
