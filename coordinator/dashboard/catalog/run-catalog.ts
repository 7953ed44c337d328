/**
 * The runs that a dashboard shows, read from their records and kept in bounded memory. Calls that come while one is
 * under way share it.
 */

import { basename, relative, resolve, sep } from 'node:path';
import type { Clock } from '../../../shared/base/clock.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import { openObjectStore } from '../../../shared/storage/open-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import type { S3Options } from '../../../shared/storage/s3-object-store.js';
import { findRecords, findRecordsInBucket } from '../../record/find-records.js';
import { GrowingRunHistory, type RunHistory } from '../../record/history/run-history.js';
import { ListedRun } from '../../record/listed-view.js';
import { RecordFollower } from '../../record/read-record.js';
import { recordPlaceOf, type RecordPlace } from '../../record/record-place.js';
import { observerAt } from '../../record/run-state.js';
import { runStatusOf, type RunStatus } from '../../record/run-status.js';
import type { RunView } from '../../../shared/events/run-reducer.js';
import { KeptValues } from './kept-values.js';

interface CatalogOptions {
  /** Folders and `s3://` prefixes. */
  readonly roots: readonly string[];
  readonly s3: S3Options;
  readonly clock: Clock;
}

export interface CatalogedRun {
  readonly key: string;
  readonly status: RunStatus;
}

export interface CatalogedRuns {
  /** The latest first. */
  readonly runs: readonly CatalogedRun[];
  readonly isCut: boolean;
}

/** A run with all that its record says. */
export interface OpenedRun extends CatalogedRun {
  readonly history: RunHistory;
}

interface ListedVersion {
  readonly version: string;
  readonly run: ListedRun;
}

interface KeptHistory {
  readonly follower: RecordFollower;
  growing: GrowingRunHistory;
  version: string;
  history: RunHistory;
}

const READS_AT_ONCE = 32;
/** Folders are looked for new runs this often; a bucket is listed whole. */
const FOLDERS_FOUND_FOR_MS = 2_000;
const BUCKETS_FOUND_FOR_MS = 60_000;
const LIST_KEPT_FOR_MS = 900;
const HISTORY_BYTE_COUNT_MAX = 64 * 1024 * 1024;

export class RunCatalog {
  readonly #options: CatalogOptions;
  readonly #found: KeptValues<FoundRuns>;
  readonly #listed: KeptValues<CatalogedRuns>;
  readonly #views = new LruCache<string, ListedVersion>({ countMax: RUN_COUNT_MAX });
  readonly #histories = new LruCache<string, KeptHistory>({ byteCountMax: HISTORY_BYTE_COUNT_MAX });
  readonly #reading = new Map<string, Promise<RunHistory | null>>();

  constructor(options: CatalogOptions) {
    const { roots, clock } = options;
    this.#options = options;
    const isBucket = roots.some((root) => root.startsWith('s3://'));
    const foundForMs = isBucket ? BUCKETS_FOUND_FOR_MS : FOLDERS_FOUND_FOR_MS;
    this.#found = new KeptValues(clock, foundForMs);
    this.#listed = new KeptValues(clock, LIST_KEPT_FOR_MS);
  }

  runs(): Promise<CatalogedRuns> {
    return this.#listed.value('', () => this.#list());
  }

  /** Null if there is no such run. */
  async open(key: string): Promise<OpenedRun | null> {
    const found = await this.#foundRun(key);
    if (found === undefined) return null;
    const history = await this.#historyOf(found.output);
    if (history === null) return null;
    const { view, unknownEventCount } = history;
    return { key, status: this.#statusOf(found.output, view, unknownEventCount), history };
  }

  /** The objects in a run's output, or in a folder of it; null if there is no such run. */
  async storeOf(key: string, folder = ''): Promise<ObjectStore | null> {
    const found = await this.#foundRun(key);
    if (found === undefined) return null;
    const address = folder === '' ? found.output : `${found.output}/${folder}`;
    return openObjectStore(address, this.#options.s3);
  }

  #findRuns(): Promise<FoundRuns> {
    const { roots, s3 } = this.#options;
    return this.#found.value('', () => findRuns(roots, s3));
  }

  async #foundRun(key: string): Promise<FoundRun | undefined> {
    const { runs } = await this.#findRuns();
    return runs.find((run) => run.key === key);
  }

  async #list(): Promise<CatalogedRuns> {
    const { runs: found, isCut } = await this.#findRuns();
    const runs: CatalogedRun[] = [];
    for (let first = 0; first < found.length; first += READS_AT_ONCE) {
      const some = found.slice(first, first + READS_AT_ONCE);
      const read = await Promise.all(some.map((run) => this.#listedRun(run)));
      for (const run of read) if (run !== null) runs.push(run);
    }
    runs.sort((a, b) => (b.status.lastEventMs ?? 0) - (a.status.lastEventMs ?? 0));
    return { runs, isCut };
  }

  async #listedRun({ key, output }: FoundRun): Promise<CatalogedRun | null> {
    const place = this.#placeOf(output);
    const version = await place.version();
    if (version === null) return null;
    const known = this.#views.get(output);
    const run = known?.run ?? (await ListedRun.of(place));
    if (known !== undefined && known.version !== version) await run.goOn();
    if (known?.version !== version) this.#views.put(output, { version, run });
    return { key, status: this.#statusOf(output, run.view, run.unknownCount) };
  }

  /** Readers of one run wait for the one that reads it. */
  #historyOf(output: string): Promise<RunHistory | null> {
    const underWay = this.#reading.get(output);
    if (underWay !== undefined) return underWay;
    const reading = this.#readHistory(output).finally(() => this.#reading.delete(output));
    this.#reading.set(output, reading);
    return reading;
  }

  async #readHistory(output: string): Promise<RunHistory | null> {
    const place = this.#placeOf(output);
    const version = await place.version();
    if (version === null) return null;
    const kept = this.#histories.get(output) ?? begunHistory(place);
    if (kept.version === version) return kept.history;
    for await (const { events, unknownCount, isAnew } of kept.follower.nextParts()) {
      if (isAnew) kept.growing = new GrowingRunHistory();
      for (const event of events) kept.growing.admit(event);
      kept.growing.addUnknown(unknownCount);
    }
    kept.version = version;
    kept.history = kept.growing.history;
    this.#histories.put(output, kept, kept.history.byteCountMax);
    return kept.history;
  }

  #statusOf(output: string, view: RunView, unknownCount: number): RunStatus {
    return runStatusOf(view, output, unknownCount, observerAt(this.#options.clock.epochMs()));
  }

  #placeOf(output: string): RecordPlace {
    return recordPlaceOf(output, this.#options.s3);
  }
}

function begunHistory(place: RecordPlace): KeptHistory {
  const growing = new GrowingRunHistory();
  return { follower: new RecordFollower(place), growing, version: '', history: growing.history };
}

interface FoundRun {
  /** Its path below the root, with `:` for `/`. Unique among those that were found together. */
  readonly key: string;
  /** A folder or an `s3://` prefix. */
  readonly output: string;
}

interface FoundRuns {
  readonly runs: readonly FoundRun[];
  /** There are more than were looked for. */
  readonly isCut: boolean;
}

const RUN_COUNT_MAX = 10_000;

/** Each output once, also where one root lies below another. */
async function findRuns(roots: readonly string[], s3: S3Options): Promise<FoundRuns> {
  const outputByKey = new Map<string, string>();
  const outputs = new Set<string>();
  let isCut = false;
  for (const root of roots) {
    const found = root.startsWith('s3://') ? await inBucket(root, s3) : await inFolder(root);
    isCut ||= found.isCut;
    for (const { key, output } of found.runs) {
      if (outputs.has(output)) continue;
      if (outputByKey.size >= RUN_COUNT_MAX) return { runs: runsOf(outputByKey), isCut: true };
      outputs.add(output);
      outputByKey.set(freeKey(key, outputByKey), output);
    }
  }
  return { runs: runsOf(outputByKey), isCut };
}

async function inFolder(root: string): Promise<FoundRuns> {
  const folder = resolve(root.replace(/^file:\/\//, ''));
  const { outputs, isCut } = await findRecords(folder);
  const runs = outputs.map((output) => ({
    key: keyOf(relative(folder, output).split(sep), basename(folder)),
    output,
  }));
  return { runs, isCut };
}

async function inBucket(root: string, s3: S3Options): Promise<FoundRuns> {
  const prefix = root.replace(/\/+$/, '');
  const { outputs, isCut } = await findRecordsInBucket(openObjectStore(prefix, s3));
  const runs = outputs.map((folder) => ({
    key: keyOf(folder.split('/'), basename(prefix)),
    output: folder === '' ? prefix : `${prefix}/${folder}`,
  }));
  return { runs, isCut };
}

function keyOf(parts: readonly string[], rootName: string): string {
  const named = parts.filter((part) => part !== '');
  return named.length === 0 ? rootName : named.join(':');
}

/** Two roots may have folders of the same name. */
function freeKey(key: string, taken: ReadonlyMap<string, string>): string {
  for (let number = 1; ; number += 1) {
    const candidate = number === 1 ? key : `${key}~${number}`;
    if (!taken.has(candidate)) return candidate;
  }
}

function runsOf(outputByKey: ReadonlyMap<string, string>): FoundRun[] {
  return [...outputByKey].map(([key, output]) => ({ key, output }));
}
