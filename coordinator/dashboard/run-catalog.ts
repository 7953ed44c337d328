/** The runs that a dashboard shows, read from their records and kept in bounded memory. */

import { basename } from 'node:path';
import { pathsIn } from '../../shared/base/canonical-json.js';
import type { Clock } from '../../shared/base/clock.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import { openObjectStore } from '../../shared/storage/open-object-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';
import { latestManifestOf } from '../checkpoints/checkpoint-manifest.js';
import { findRecords } from '../record/find-records.js';
import { FollowedHistory, type RunHistory } from '../record/run-history.js';
import { RunRecord } from '../record/run-record.js';
import { readView, runStatusOf, type RunStatus } from '../record/run-status.js';

type ReadView = NonNullable<Awaited<ReturnType<typeof readView>>>;

interface CatalogOptions {
  /** Folders and `s3://` prefixes. */
  readonly roots: readonly string[];
  readonly s3: S3Options;
  readonly clock: Clock;
}

interface CatalogedRun {
  /** The path below the root, with `:` for `/`. */
  readonly key: string;
  readonly status: RunStatus;
}

interface CatalogedRuns {
  /** The latest first. */
  readonly runs: readonly CatalogedRun[];
  /** There are more than were looked for. */
  readonly isCut: boolean;
}

/** A run with its whole history. */
export interface OpenedRun extends CatalogedRun {
  readonly history: RunHistory;
}

interface FoundRuns {
  readonly outputByKey: ReadonlyMap<string, string>;
  readonly isCut: boolean;
}

const READS_AT_ONCE = 32;
const RUN_COUNT_MAX = 10_000;
const HISTORY_COUNT_MAX = 64;
/** Folders are looked for new runs this often; a bucket is listed whole. */
const FOLDERS_FOUND_FOR_MS = 2_000;
const BUCKETS_FOUND_FOR_MS = 60_000;

export class RunCatalog {
  readonly #options: CatalogOptions;
  readonly #views = new LruCache<string, { version: string; read: ReadView }>({
    countMax: RUN_COUNT_MAX,
  });
  readonly #histories = new LruCache<string, FollowedHistory>({ countMax: HISTORY_COUNT_MAX });
  /** Readers of one history wait for each other. */
  #turn: Promise<unknown> = Promise.resolve();
  #found: { readonly untilMs: number; readonly runs: Promise<FoundRuns> } | null = null;

  constructor(options: CatalogOptions) {
    this.#options = options;
  }

  async runs(): Promise<CatalogedRuns> {
    const { outputByKey, isCut } = await this.#findRuns();
    const entries = [...outputByKey];
    const runs: CatalogedRun[] = [];
    for (let first = 0; first < entries.length; first += READS_AT_ONCE) {
      const some = entries.slice(first, first + READS_AT_ONCE);
      const read = await Promise.all(some.map(([key, output]) => this.#listed(key, output)));
      for (const run of read) if (run !== null) runs.push(run);
    }
    runs.sort((a, b) => (b.status.lastEventMs ?? 0) - (a.status.lastEventMs ?? 0));
    return { runs, isCut };
  }

  /** Null if there is no such run. */
  async open(key: string): Promise<OpenedRun | null> {
    const output = (await this.#findRuns()).outputByKey.get(key);
    if (output === undefined) return null;
    const record = new RunRecord(output, this.#options.s3);
    if ((await record.version()) === null) return null;
    const followed = this.#histories.get(output) ?? new FollowedHistory(record);
    this.#histories.put(output, followed);
    const reading = this.#turn.then(() => followed.catchUp());
    this.#turn = reading.catch(() => undefined);
    const history = await reading;
    return { key, history, status: this.#statusOf(output, history) };
  }

  /** The objects in a run's output, or in a folder of it; null if there is no such run. */
  async storeOf(key: string, folder = ''): Promise<ObjectStore | null> {
    const output = (await this.#findRuns()).outputByKey.get(key);
    if (output === undefined) return null;
    return openObjectStore(folder === '' ? output : `${output}/${folder}`, this.#options.s3);
  }

  async #listed(key: string, output: string): Promise<CatalogedRun | null> {
    const record = new RunRecord(output, this.#options.s3);
    const version = await record.version();
    if (version === null) return null;
    const known = this.#views.get(output);
    const read = known?.version === version ? known.read : await readView(record);
    if (read === null) return null;
    this.#views.put(output, { version, read });
    return { key, status: this.#statusOf(output, read) };
  }

  #statusOf(output: string, read: ReadView): RunStatus {
    return runStatusOf(read, output, { nowMs: this.#options.clock.epochMs() });
  }

  #findRuns(): Promise<FoundRuns> {
    const { roots, s3, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#found !== null && nowMs < this.#found.untilMs) return this.#found.runs;
    const isBucket = roots.some((root) => root.startsWith('s3://'));
    const untilMs = nowMs + (isBucket ? BUCKETS_FOUND_FOR_MS : FOLDERS_FOUND_FOR_MS);
    const runs = findRuns(roots, s3);
    const found = { untilMs, runs };
    this.#found = found;
    runs.catch(() => {
      if (this.#found === found) this.#found = null;
    });
    return runs;
  }
}

/** Each output once, also where one root lies below another. */
async function findRuns(roots: readonly string[], s3: S3Options): Promise<FoundRuns> {
  const outputByKey = new Map<string, string>();
  const seen = new Set<string>();
  let isAnyCut = false;
  for (const root of roots) {
    const { outputs, isCut } = await findRecords(root, s3);
    isAnyCut ||= isCut;
    for (const { output, path } of outputs) {
      if (seen.has(output)) continue;
      if (seen.size >= RUN_COUNT_MAX) return { outputByKey, isCut: true };
      seen.add(output);
      const key = path === '' ? basename(output) : path.replaceAll(/[/\\]/g, ':');
      outputByKey.set(freeKey(key, outputByKey), output);
    }
  }
  return { outputByKey, isCut: isAnyCut };
}

/** Two roots may have folders of the same name. */
function freeKey(key: string, taken: ReadonlyMap<string, string>): string {
  for (let number = 1; ; number += 1) {
    const candidate = number === 1 ? key : `${key}~${number}`;
    if (!taken.has(candidate)) return candidate;
  }
}

/** Settings that decide what a run computes, by path, such as `method.innerRate`. */
type RunSettings = ReadonlyMap<string, string>;

/** The settings of the latest checkpoint; null before the first. */
export async function settingsIn(checkpoints: ObjectStore): Promise<RunSettings | null> {
  const manifest = await latestManifestOf(checkpoints);
  if (manifest === null) return null;
  const settings = pathsIn(manifest.decidingConfig);
  settings.push(['store', manifest.storeDigest]);
  const machine = manifest.computedOn.at(-1);
  if (machine !== undefined) settings.push(['computed on', machine.fingerprint]);
  return new Map(settings.sort(([a], [b]) => (a < b ? -1 : 1)));
}
