/**
 * A refresh that goes on. Each turn appends the mature rows of a row log, and exports a candidate, which has a label of its own. It
 * gets the label of what is served once it has been judged on rows that came after it, and the bundle before gets it back if it does
 * better on later rows. What is done is known from the store, the checkpoint, the bundles and their labels alone.
 */

import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isInterruption, QianmoError, errorOf } from '../../shared/base/errors.js';
import {
  bundleDigestOf,
  moveLabel,
  moveLabelFrom,
  readBundleManifest,
  readLabel,
  rollBackLabel,
  type BundleLabel,
  type PublishedBundle,
} from '../../shared/bundle/bundle-store.js';
import { readPublishedBundle } from '../../shared/bundle/read-bundle.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { noticeEvent, warningEvent, type RunEvent } from '../../shared/events/run-events.js';
import { counted, shortDigest } from '../../shared/names/counted.js';
import { type ObjectStore, joinAddress } from '../../shared/storage/object-store.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { LATEST_KEY, latestManifestOf } from '../checkpoints/checkpoint-manifest.js';
import { findLogFiles } from '../logs/log-files.js';
import { digestOf, rowLogAt, servedRowsIn } from '../logs/row-log.js';
import { withDuckSession } from '../logs/work-folder.js';
import { deviationsAtAnyLook } from '../scoring/experiment.js';
import {
  intervalOf,
  lossesOf,
  ONE_LOOK,
  PairedSums,
  type PairedLosses,
  type ServedScorer,
} from '../scoring/served-losses.js';
import { appendToStore, exportStale, isAtItsEnd } from './export-run.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import { chosenConfigOf } from './places.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';
import { checkpointAddressOf, objectStoreOf, openStoreAsPrepared } from './run-files.js';
import { openRunContext } from './run-handle.js';

/** Bundles are judged on the newest files and rows, if there are more. */
const JUDGED_FILES_MAX = 200;
const JUDGED_ROWS_MAX = 100_000;
/** A label is watched most closely at this many times the rows by which it was given. */
const WATCHED_LOOKS = 4;

export interface FollowResult {
  readonly turnCount: number;
  /** The bundle that the label points at. */
  readonly digest: string;
}

interface Followed {
  readonly config: RunConfig;
  readonly request: RequestOf<'follow'>;
  readonly objects: ObjectStore;
  /** By the digest of the bundle; kept from turn to turn. */
  readonly scorers: Map<string, ServedScorer>;
  /** The candidate and its rows, as it was told last. */
  toldOf: string;
}

/** Ends without a failure when it is stopped. */
export async function followRun(
  request: RequestOf<'follow'>,
  context: RunContext,
): Promise<FollowResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  return loggedRun(loggedCallOf('refresh', config), context, async (logged) => {
    const objects = objectStoreOf(config, request.out ?? joinAddress(config.output, 'bundles'));
    const followed = { config, request, objects, scorers: new Map(), toldOf: '' };
    logged.onClose(() => {
      closeScorers(followed, []);
      return Promise.resolve();
    });
    const turnCount = await takeTurns(followed, logged);
    return { turnCount, digest: await bundleDigestOf(objects, request.label) };
  });
}

async function takeTurns(followed: Followed, logged: RunContext): Promise<number> {
  const { clock, signal } = logged;
  const checkedFiles = new Set<string>();
  let isToldOfDevice = false;
  const sink = (event: RunEvent): void => {
    const isOfDevice = event.kind === 'compute-ready';
    const isOfKnown = event.kind === 'notice' && event.code === 'logs-known';
    if (!isOfKnown && !(isOfDevice && isToldOfDevice)) logged.sink(event);
    isToldOfDevice ||= isOfDevice;
  };
  for (let turnCount = 0; ; turnCount += 1) {
    const startedMs = clock.monotonicMs();
    const { context, close } = openRunContext(logged, signal, sink);
    try {
      await takeTurn(followed, { ...context, checkedFiles });
    } catch (error) {
      if (signal.aborted && isInterruption(error)) return turnCount;
      if (turnCount === 0 || !mayPass(error)) throw error;
      sink(warningEvent('turn-failed', `tried again at the next turn: ${error.message}`));
    } finally {
      await close();
    }
    const tookMs = clock.monotonicMs() - startedMs;
    await clock.sleep(Math.max(0, 1_000 * followed.request.intervalSeconds - tookMs), signal);
    if (signal.aborted) return turnCount + 1;
  }
}

/** Something is away, or somebody has moved a label. */
function mayPass(error: unknown): error is QianmoError {
  return error instanceof QianmoError && ['transient', 'failed'].includes(error.kind);
}

async function takeTurn(followed: Followed, context: RunContext): Promise<void> {
  const { config, request, objects } = followed;
  const { label } = request;
  const logs = await logsWithFiles(followed);
  if (logs.length > 0) {
    const store = await openStoreAsPrepared(config, context);
    await watchLabelled({ ...followed, logs, store }, context);
    await judgeCandidate(followed, { logs, store }, context);
  }
  const { own, candidate } = await labelsOf(objects, label);
  closeScorers(followed, [own.bundle, candidate, own.earlier[0]]);
  if (logs.length > 0) await appendToStore(config, { ...request, logs }, context);
  if (candidate !== null || !(await isStale(followed, context))) return;
  const isDue = await isTrunkDue(followed, context);
  const { outerSteps, ...place } = request;
  await exportStale(
    config,
    isDue ? { ...place, outerSteps } : { ...place, outerSteps: undefined },
    (_, { from, to }) => addCandidate(followed, { from: from ?? own.bundle, to }, context),
    context,
  );
}

/** @throws QianmoError `usage` for a log that is not of a server. */
async function logsWithFiles({ config, request }: Followed): Promise<string[]> {
  const found: string[] = [];
  for (const address of [request.logs].flat()) {
    const rows = await rowLogAt(address, (at) => objectStoreOf(config, at));
    if (rows !== null) found.push(address);
    else if ((await stat(address).catch(() => null))?.isFile() === true)
      throw errorOf('usage', 'this is not the row log of a server, so it cannot be followed', {
        where: `--logs ${address}`,
        expected: 'the address that `qianmo serve --rows` writes to',
        cure: 'append the file without --follow',
      });
  }
  return found;
}

interface JudgedLabels {
  readonly own: BundleLabel;
  /** The bundle that waits for its judgement; null if there is none. */
  readonly candidate: string | null;
  /** Bundles that were refused, those of the label first. */
  readonly refused: readonly string[];
  /** The last of each. */
  readonly lastRefused: readonly (string | undefined)[];
}

/** The label of candidates remembers the bundle that a candidate was made of, and those that were refused. */
async function labelsOf(objects: ObjectStore, label: string): Promise<JudgedLabels> {
  // The first message of a place without bundles.
  await bundleDigestOf(objects, label);
  const own = await readLabel(objects, label);
  if (own === null) throw new Error(`${label} is no label`);
  const next = await readLabel(objects, candidateLabelOf(label));
  const refused = [...own.left, ...(next?.left ?? [])];
  const isWaiting =
    next !== null && next.earlier[0] === own.bundle && !refused.includes(next.bundle);
  const lastRefused = [own.left[0], next?.left[0]];
  return { own, candidate: isWaiting ? next.bundle : null, refused, lastRefused };
}

function candidateLabelOf(label: string): string {
  return `${label}-next`;
}

async function addCandidate(
  { objects, request: { label, judgeRows } }: Followed,
  { from, to }: { readonly from: string; readonly to: string },
  { sink }: RunContext,
): Promise<void> {
  const { refused } = await labelsOf(objects, label);
  if (from === to || refused.includes(to)) return;
  const name = candidateLabelOf(label);
  await moveLabel(objects, name, from);
  await moveLabel(objects, name, to);
  const text = `bundle ${shortDigest(to)} is ${name}: judged on the next ${counted(judgeRows, 'row')}`;
  sink(noticeEvent('candidate-made', text));
}

/** Returns whether there is something that neither the labelled bundle nor the last refused one was made of. */
async function isStale(
  { config, objects, request: { label } }: Followed,
  context: RunContext,
): Promise<boolean> {
  const store = await openStoreAsPrepared(config, context);
  const trained = await latestManifestOf(objectStoreOf(config, checkpointAddressOf(config)));
  const { own, lastRefused } = await labelsOf(objects, label);
  for (const digest of [own.bundle, ...lastRefused]) {
    if (digest === undefined) continue;
    const made = (await publishedOrNull(objects, digest))?.manifest.provenance;
    if (made?.storeDigest !== store.digest) continue;
    if (made.checkpoint.outerStep === trained?.outerStep) return false;
  }
  return true;
}

async function isTrunkDue(
  { config, request: { outerSteps, trunkSeconds } }: Followed,
  { clock }: RunContext,
): Promise<boolean> {
  if (outerSteps === undefined) return false;
  const checkpoints = objectStoreOf(config, checkpointAddressOf(config));
  const manifest = await latestManifestOf(checkpoints);
  if (manifest === null) return false;
  const [written] = await checkpoints.listWithTimes(LATEST_KEY);
  const ageMs = clock.epochMs() - (written?.modifiedMs ?? 0);
  return !isAtItsEnd(manifest, config) || ageMs >= 1_000 * trunkSeconds;
}

interface JudgedRows {
  readonly logs: readonly string[];
  readonly store: TaskStore;
}

/** Moves the label back if the bundle before does better on rows that came after the labelled one. */
async function watchLabelled(watched: Followed & JudgedRows, context: RunContext): Promise<void> {
  const { objects, request } = watched;
  const { own } = await labelsOf(objects, request.label);
  const [before] = own.earlier;
  const bundle = await publishedOrNull(objects, own.bundle);
  const against = before === undefined ? null : await publishedOrNull(objects, before);
  if (bundle === null || against === null) return;
  const losses = await lossesSince(watched, { bundle, against }, context);
  if (losses.rowCount < request.judgeRows) return;
  const interval = intervalOf(
    losses,
    deviationsAtAnyLook({
      ...{ count: losses.rowCount, countPlanned: WATCHED_LOOKS * request.judgeRows, error: 0.05 },
    }),
  );
  if (interval[0] <= 0) return;
  await rollBackLabel(objects, request.label, own.bundle);
  context.sink(judgedEvent({ bundle, against }, 'rolled-back', losses, interval));
}

/** Gives the candidate the label if it is not worse than the labelled one on rows that came after it, and otherwise drops it. */
async function judgeCandidate(
  followed: Followed,
  judged: JudgedRows,
  { sink, ...context }: RunContext,
): Promise<void> {
  const { objects, request } = followed;
  const { label, judgeRows } = request;
  const { own, candidate } = await labelsOf(objects, label);
  if (candidate === null) return;
  const bundle = await readBundleManifest(objects, candidate);
  const against = await readBundleManifest(objects, own.bundle);
  const losses = await lossesSince(
    { ...followed, ...judged },
    { bundle, against },
    { ...context, sink },
  );
  const { rowCount } = losses;
  if (rowCount < judgeRows) {
    const told = `candidate ${shortDigest(candidate)}: ${rowCount} of ${counted(judgeRows, 'row')}`;
    if (rowCount > 0 && followed.toldOf !== told) sink(noticeEvent('candidate-waits', told));
    followed.toldOf = told;
    return;
  }
  const interval = intervalOf(losses, ONE_LOOK);
  const isWorse = interval[0] > 0;
  if (isWorse) await rollBackLabel(objects, candidateLabelOf(label), candidate);
  else await moveLabelFrom(objects, label, { from: own.bundle, to: candidate });
  sink(judgedEvent({ bundle, against }, isWorse ? 'rejected' : 'labelled', losses, interval));
}

interface Pair {
  readonly bundle: PublishedBundle;
  readonly against: PublishedBundle;
}

function judgedEvent(
  { bundle, against }: Pair,
  verdict: 'labelled' | 'rejected' | 'rolled-back',
  { rowCount, adgroupCount, loss, lossAgainst }: PairedLosses,
  [low, high]: readonly [number, number],
): RunEvent {
  return {
    ...{ kind: 'bundle-judged', bundle: bundle.digest, against: against.digest, verdict },
    ...{ rowCount, adgroupCount, loss, lossAgainst, low, high },
  };
}

/** The losses of both on the mature rows whose files the store did not have when the bundle was made. */
async function lossesSince(
  followed: Followed & JudgedRows,
  { bundle, against }: Pair,
  context: RunContext,
): Promise<PairedLosses> {
  const { config, store, logs } = followed;
  const sums = new PairedSums();
  const objectStoreAt = (address: string): ObjectStore => objectStoreOf(config, address);
  const known = filesAt(store, bundle.manifest.provenance.storeDigest);
  const fresh = known === null ? [] : await newestFiles(logs, known, objectStoreAt);
  if (fresh.length === 0) return sums.means();
  const isFresh = new Set(fresh);
  const scorers: ServedScorer[] = [];
  for (const { digest } of [bundle, against])
    scorers.push(await scorerOf(followed, digest, context));
  const { memoryMiBMax } = config.data;
  const place = { temporaryFolder: tmpdir(), memoryMiBMax, signal: context.signal };
  await withDuckSession('append', place, async (session, temporaryFolder) => {
    const files = await findLogFiles(
      { logs: [...logs], format: 'auto' },
      {
        ...{ session, objectStoreOf: objectStoreAt, temporaryFolder },
        isKnown: (digest) => !isFresh.has(digest),
      },
    );
    for (const file of files) {
      if (file.byteCount === 0) continue;
      for await (const rows of servedRowsIn(file, JUDGED_ROWS_MAX)) {
        context.signal.throwIfAborted();
        const [losses, others] = scorers.map((scorer) => lossesOf(scorer.score({}, rows), rows));
        for (const [row, { adgroup }] of rows.entries())
          sums.add(adgroup, losses?.[row] ?? NaN, others?.[row] ?? NaN);
      }
    }
  });
  return sums.means();
}

/** Digests of the files of row logs that the store had when it had this digest; null if it never had. */
function filesAt({ manifest, digest }: TaskStore, wanted: string): ReadonlySet<string> | null {
  const { appends = [], rowFiles = [] } = manifest;
  const later = appends.findIndex(({ earlierDigest }) => earlierDigest === wanted);
  if (later < 0 && wanted !== digest) return null;
  const earlier = later < 0 ? appends : appends.slice(0, later);
  return new Set([...rowFiles, ...earlier.flatMap(({ logDigests }) => logDigests)]);
}

async function newestFiles(
  logs: readonly string[],
  known: ReadonlySet<string>,
  objectStoreAt: (address: string) => ObjectStore,
): Promise<string[]> {
  const keys: string[] = [];
  for (const address of logs) keys.push(...((await rowLogAt(address, objectStoreAt))?.keys ?? []));
  const fresh = keys.sort().map(digestOf);
  return fresh.filter((digest) => !known.has(digest)).slice(-JUDGED_FILES_MAX);
}

async function publishedOrNull(
  objects: ObjectStore,
  digest: string,
): Promise<PublishedBundle | null> {
  return readBundleManifest(objects, digest).catch((error: unknown) => {
    // It was pruned.
    if (error instanceof QianmoError && error.kind === 'usage') return null;
    throw error;
  });
}

async function scorerOf(
  { objects, scorers }: Followed,
  digest: string,
  { machine }: RunContext,
): Promise<ServedScorer> {
  const known = scorers.get(digest);
  if (known !== undefined) return known;
  const loaded = await readPublishedBundle(objects, digest);
  const where = `${objects.address}@${digest}`;
  const scorer = await machine.openServedScorer({ digest, loaded }, where);
  scorers.set(digest, scorer);
  return scorer;
}

/** @param kept digests of bundles whose scorers stay */
function closeScorers({ scorers }: Followed, kept: readonly (string | null | undefined)[]): void {
  for (const [digest, scorer] of scorers) {
    if (kept.includes(digest)) continue;
    scorer.close();
    scorers.delete(digest);
  }
}
