/**
 * Adapts adgroups of served bundles from labelled rows, which every bundle encodes and adapts again. Where the kernel cannot
 * adapt them, a compute process does, and the thread that answers requests goes on meanwhile.
 */

import { z } from 'zod';
import { at } from '../../../shared/base/arrays.js';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { isForSize } from '../../../shared/bundle/bundle-manifest.js';
import { offsetOf } from '../../../shared/bundle/calibration.js';
import { keyHashOf, blockOfKey, UNKNOWN_BLOCK } from '../../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { restsOnSupport } from '../../../shared/methods/inner-loop/inner-loop.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import {
  adaptedLayoutOf,
  decodeAdaptedTasks,
  type AdaptedTask,
} from '../../../shared/bundle/adapted-tasks.js';
import type { JobInput, JobOutput } from '../../../shared/queue/job-executor.js';
import { PROTOCOL_VERSION, type Adaptation } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { encodeRowPack, rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import { type TaskRows, withTrainedPadding } from '../../../shared/tasks/task-store.js';
import { encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import type { LogState, SharedLog } from '../state/shared-log.js';
import { Catalog, isCatalogLine, type CatalogLine } from './catalog.js';
import { supportTaskOf, type LabelledRows } from './kernel-adapter.js';
import type { LiveNotes } from './live-blocks.js';
import { KEY_SEPARATOR } from './ranking-body.js';
import { RefusedRequest, refusedValue, refusalOf } from './refused-request.js';
import type { ServedBundle } from './served-bundle.js';

const LiveRowsSchema = z.strictObject({
  /** The key of the adgroup. */
  key: z.string(),
  /** Null where the bundle says. */
  segment: z.string().nullable(),
  /** None removes what the adgroup had. */
  rows: z.array(
    z.strictObject({
      features: z.record(z.string(), z.unknown()),
      label: z.number(),
      impressions: z.number(),
    }),
  ),
});
/** Raw rows, which every bundle encodes again. */
type LiveRows = z.infer<typeof LiveRowsSchema>;

/** Adgroups with rows; a bundle has room for as many live blocks. */
const LIVE_ADGROUPS_MAX = 65_536;
/** Rows of all adgroups, as text. */
const LIVE_ROWS_BYTE_COUNT_MAX = 256 * 2 ** 20;

/** The catalog, and the labelled rows of adgroups that adapt while serving: the last rows of each adgroup. */
export class LiveRowsState implements LogState<void> {
  readonly catalog = new Catalog();
  /** A line by key: text takes less memory than rows. */
  readonly #texts = new Map<string, string>();
  #byteCount = 0;
  /** Called with rows that are stored, in the order of the log. */
  onRows: (rows: LiveRows, text: string) => void = () => undefined;

  apply(text: string): void {
    const content: unknown = JSON.parse(text);
    if (isCatalogLine(content)) {
      this.catalog.apply(content);
      return;
    }
    const rows = LiveRowsSchema.parse(content);
    this.#byteCount -= this.#texts.get(rows.key)?.length ?? 0;
    this.#texts.delete(rows.key);
    if (rows.rows.length > 0) {
      this.#texts.set(rows.key, text);
      this.#byteCount += text.length;
    }
    this.onRows(rows, text);
  }

  *snapshot(): Iterable<string> {
    yield* this.catalog.lines();
    yield* this.#texts.values();
  }

  /** Adgroups that have rows. */
  keys(): readonly string[] {
    return [...this.#texts.keys()];
  }

  /** Null if the adgroup has none. */
  rowsOf(key: string): LiveRows | null {
    const text = this.#texts.get(key);
    return text === undefined ? null : parseRows(text);
  }

  hasRoomFor(key: string, text: string): boolean {
    const before = this.#texts.get(key)?.length ?? 0;
    const isFull = before === 0 && this.#texts.size >= LIVE_ADGROUPS_MAX;
    return !isFull && this.#byteCount + text.length - before <= LIVE_ROWS_BYTE_COUNT_MAX;
  }
}

function parseRows(text: string): LiveRows {
  return LiveRowsSchema.parse(JSON.parse(text));
}

/** Computes adapt jobs: a compute process, or the parent of this process, which has one. */
export interface AdaptEngine {
  /**
   * Has it ready before the first job.
   *
   * @throws QianmoError `environment` if the engine does not load here.
   */
  start(): Promise<void>;
  /** @throws QianmoError as `JobExecutor` does. */
  execute(input: JobInput): Promise<Pick<JobOutput, 'output'>>;
}

/** Padded rows that are computed at once; a larger adgroup is computed alone. */
const MICRO_BATCH_ROWS_MAX = 4_096;
/** Keeps one adgroup from being padded to the shape of several, which takes twice as long. */
const LONE_ROWS_MAX = 1;
/** Far longer than any job takes; a process that is stuck is replaced. */
const JOB_TIMEOUT_MS = 60_000;

/**
 * Adgroups of a bundle adapt by the `adapt` jobs that an export sends, with rows of clients in place of a store's. A job
 * brings all that it reads, and its answer is the blob that an export packs.
 */
export class AdaptJobs {
  readonly #digest: string;
  readonly #loaded: LoadedBundle;
  readonly #variables: ReturnType<typeof withRef>;
  readonly #noVariables: ReturnType<typeof withRef>;

  /** @param digest of the bundle. */
  constructor(digest: string, loaded: LoadedBundle) {
    this.#digest = digest;
    this.#loaded = loaded;
    this.#variables = withRef(encodeTensors(loaded.model.dense));
    this.#noVariables = withRef(encodeTensors(new Map()));
  }

  /** The job that adapts some adgroups alike. */
  inputOf(adgroups: readonly LabelledRows[], adaptation: Adaptation): JobInput {
    const { model: config, method, encodedFeatures: features } = this.#loaded.manifest;
    const { spec, tables } = this.#loaded.model;
    const tasks = adgroups.map((rows, taskIndex) => this.#taskOf(rows, taskIndex));
    const [dense, frozen] = [this.#noVariables, this.#variables];
    return {
      job: {
        ...{ protocolVersion: PROTOCOL_VERSION, runId: this.#digest, epoch: 0 },
        ...{ outerStep: 0, jobIndex: 0, device: 'cpu', portable: false },
        ...{ dense: dense.ref, frozen: frozen.ref },
        ...{ timeoutMs: JOB_TIMEOUT_MS, blobLifetimeMs: JOB_TIMEOUT_MS },
        store: {
          ...{ address: 'given', digest: this.#digest },
          storage: { s3Region: 'none', s3ForcePathStyle: true },
        },
        ...{ model: config, taskIndices: [...tasks.keys()] },
        microBatchRowsMax: tasks.length === 1 ? LONE_ROWS_MAX : MICRO_BATCH_ROWS_MAX,
        work: { kind: 'adapt', method, adaptation, rows: 'all' },
      },
      ...{ dense: dense.bytes, frozen: frozen.bytes, given: { features, tasks } },
      rowPack:
        tables.size === 0
          ? null
          : encodeRowPack(tables, rowPackLayoutOf(tasks), spec.tableRowWidth),
    };
  }

  /** @throws QianmoError `data` if the output is not that of such a job. */
  tasksIn(output: Uint8Array, count: number): readonly AdaptedTask[] {
    const layout = adaptedLayoutOf(this.#loaded.model.spec);
    const indices = Array.from({ length: count }, (_, index) => index);
    return decodeAdaptedTasks(output, layout, indices, 'adapted adgroups');
  }

  #taskOf(labelled: LabelledRows, taskIndex: number): TaskRows {
    const { options, tables, categoryFeatures } = this.#loaded.model.spec;
    const paddingIdOf = (bag: number): number =>
      at(tables, categoryFeatures.length + bag).rowCount - 1;
    const bagIds = withTrainedPadding(options, labelled.rows.bagIds, paddingIdOf);
    return { ...supportTaskOf(labelled, taskIndex), bagIds };
  }
}

function withRef(bytes: Uint8Array) {
  return { bytes, ref: blobRefOf(bytes) };
}

/** The part of the time that adapting to the next bundle takes: there may be tens of thousands of adgroups. */
const ADAPTING_SHARE = 1 / 8;
/** Bounds of a job of stored rows. */
const JOB_ADGROUPS_MAX = 64;
const JOB_ROWS_MAX = 16_384;
/** A job is sent again if its process has died. */
const ATTEMPTS_MAX = 3;

export type LiveRowsLog = SharedLog<LiveRowsState, void>;

/** Rows that this process appends, by their text. */
interface OwnRows {
  /** Adapted under one bundle; null for rows that remove what the adgroup had. */
  readonly adapted: { readonly bundle: string; readonly task: AdaptedTask } | null;
  served: Promise<void>;
}

interface LiveAdapterParts {
  readonly log: LiveRowsLog;
  readonly engine: AdaptEngine;
  readonly clock: Clock;
}

export class LiveAdapter {
  readonly #log: LiveRowsLog;
  readonly #engine: AdaptEngine;
  readonly #clock: Clock;
  readonly #jobs = new WeakMap<ServedBundle, AdaptJobs>();
  /** Bundles that live rows are put into: the one in use, and one that is about to be. */
  #bundles: readonly ServedBundle[] = [];
  /** Adgroups of which rows were stored while a bundle was prepared, one set for each such bundle. */
  readonly #storedMeanwhile = new Set<Set<string>>();
  /** By key, the rows that are about to be served; those of one adgroup are served in the order of the store. */
  readonly #serving = new Map<string, Promise<void>>();

  readonly #own = new Map<string, OwnRows>();

  constructor({ log, engine, clock }: LiveAdapterParts) {
    this.#log = log;
    this.#engine = engine;
    this.#clock = clock;
    log.state.onRows = (rows, text) => {
      const own = this.#own.get(text);
      const served = this.#serve(rows, own?.adapted ?? null);
      // A block that another process has asked for stays as it was if it does not adapt here.
      served.catch(() => undefined);
      if (own !== undefined) own.served = served;
    };
  }

  /**
   * Adapts all live rows to a bundle that is not served yet.
   *
   * @param beside the clock where another bundle is served meanwhile.
   * @throws QianmoError if there are rows that could not be adapted now.
   */
  async prepare(bundle: ServedBundle, beside: Clock | null): Promise<void> {
    this.#bundles = [...this.#bundles.filter(({ isRetired }) => !isRetired), bundle];
    bundle.catalog = this.catalog;
    const starting = bundle.adapter === null ? this.#engine.start() : Promise.resolve();
    // Without stored rows, a failure is that of the first request that adapts.
    starting.catch(() => undefined);
    const stored = new Set<string>();
    this.#storedMeanwhile.add(stored);
    try {
      const keys = this.#log.state.keys();
      if (keys.length === 0) {
        await starting.catch(() => undefined);
        return;
      }
      await starting;
      for await (const group of this.#storedIn(bundle, keys, beside))
        await besideRequests(beside, () => this.#adaptStored(bundle, group, stored));
      await Promise.all(this.#serving.values());
    } finally {
      this.#storedMeanwhile.delete(stored);
    }
  }

  get catalog(): Catalog {
    return this.#log.state.catalog;
  }

  /**
   * Changes the catalog, soon in every process.
   *
   * @throws RefusedRequest if there is no room; QianmoError if the change is not known to be on disk.
   */
  async describe(line: CatalogLine): Promise<void> {
    if (!this.catalog.hasRoomFor(line))
      throw refusalOf('queue-full', 'the catalog has no room for another adgroup', {
        cure: 'send fewer attributes, or begin another state folder with the adgroups that are left',
      });
    await this.#log.append(JSON.stringify(line));
  }

  /**
   * Adapts an adgroup and serves its block, soon in every process. Without rows, the bundle's own block is served again.
   *
   * @param deadlineAtMs by the clock; rows that have not adapted by then are not stored.
   * @throws RefusedRequest if the bundle cannot adapt from these rows, or not in time; QianmoError if they are not
   *   known to be on disk and served.
   */
  async adapt(
    bundle: ServedBundle,
    rows: LiveRows,
    deadlineAtMs: number,
  ): Promise<LiveNotes | null> {
    let notes: LiveNotes | null = null;
    let adapted: OwnRows['adapted'] = null;
    const text = JSON.stringify(rows);
    if (rows.rows.length > 0) {
      // Rows that cannot be read or adapted are refused before they are stored.
      const read = readRows(bundle.loaded, rows);
      const task = await this.#inTime(deadlineAtMs, this.#adaptOne(bundle, read));
      notes = read.notesOf(task);
      adapted = { bundle: bundle.digest, task };
    }
    if (rows.rows.length > 0 && !this.#log.state.hasRoomFor(rows.key, text))
      throw refusalOf('queue-full', 'there is no room for the rows of another adgroup', {
        cure: 'remove some by an empty list of rows, or export the run again with them',
      });
    const own: OwnRows = { adapted, served: Promise.resolve() };
    this.#own.set(text, own);
    try {
      await this.#log.append(text);
      await own.served;
      return notes;
    } finally {
      this.#own.delete(text);
    }
  }

  /** Serves rows that are stored, in every bundle. */
  #serve(rows: LiveRows, adapted: OwnRows['adapted']): Promise<void> {
    for (const stored of this.#storedMeanwhile) stored.add(rows.key);
    const before = this.#serving.get(rows.key) ?? Promise.resolve();
    const served = before
      .catch(() => undefined)
      .then(async () => {
        // The arrays of one that was retired meanwhile may be gone.
        this.#bundles = this.#bundles.filter(({ isRetired }) => !isRetired);
        for (const bundle of this.#bundles) await this.#serveIn(bundle, rows, adapted);
      })
      .finally(() => {
        if (this.#serving.get(rows.key) === served) this.#serving.delete(rows.key);
      });
    this.#serving.set(rows.key, served);
    return served;
  }

  async #serveIn(bundle: ServedBundle, rows: LiveRows, adapted: OwnRows['adapted']): Promise<void> {
    if (bundle.isRetired) return;
    if (rows.rows.length === 0) {
      bundle.live.remove(hashOf(rows.key));
      return;
    }
    const release = bundle.hold();
    try {
      const read = readRows(bundle.loaded, rows);
      const isKnown = adapted?.bundle === bundle.digest;
      putIn(bundle, read, isKnown ? adapted.task : await this.#adaptOne(bundle, read));
    } catch (error) {
      // Rows that this bundle cannot read stay for others; until then its own block is served.
      if (!(error instanceof RefusedRequest)) throw error;
      bundle.live.remove(hashOf(rows.key));
    } finally {
      release();
    }
  }

  /** The rows of the adgroups that the bundle can read, in groups that a job adapts alike. */
  async *#storedIn(
    bundle: ServedBundle,
    keys: readonly string[],
    beside: Clock | null,
  ): AsyncGenerator<readonly ReadRows[]> {
    const groups = new Map<string, ReadRows[]>();
    for (const key of keys) {
      const rows = this.#log.state.rowsOf(key);
      if (rows === null) continue;
      const read = await besideRequests(beside, () => readableRows(bundle, rows));
      if (read === null) continue;
      const name = canonicalJson(read.adaptation);
      const group = groups.get(name) ?? [];
      groups.set(name, [...group, read]);
      const rowCount = group.reduce((sum, each) => sum + each.rowCount, read.rowCount);
      if (group.length + 1 < JOB_ADGROUPS_MAX && rowCount < JOB_ROWS_MAX) continue;
      groups.delete(name);
      yield [...group, read];
    }
    yield* groups.values();
  }

  async #adaptStored(
    bundle: ServedBundle,
    group: readonly ReadRows[],
    stored: ReadonlySet<string>,
  ): Promise<void> {
    const tasks = await this.#adaptGroup(bundle, group);
    for (const [place, read] of group.entries())
      // Later rows are served already.
      if (!stored.has(read.key) && divergedPart(at(tasks, place)) === null)
        putIn(bundle, read, at(tasks, place));
  }

  /** @throws RefusedRequest if the block is not finite. */
  async #adaptOne(bundle: ServedBundle, read: ReadRows): Promise<AdaptedTask> {
    const task = at(await this.#adaptGroup(bundle, [read]), 0);
    requireFinite(task);
    return task;
  }

  /** Some adgroups that adapt alike. */
  async #adaptGroup(
    bundle: ServedBundle,
    group: readonly ReadRows[],
  ): Promise<readonly AdaptedTask[]> {
    const labelled = group.map(({ encoded }) => encoded());
    const { adaptation } = at(group, 0);
    const { adapter } = bundle;
    if (adapter !== null) return labelled.map((rows) => adapter.adapted(rows, adaptation));
    const jobs = this.#jobsOf(bundle);
    const input = jobs.inputOf(labelled, adaptation);
    for (let attempt = 1; ; attempt += 1)
      try {
        return jobs.tasksIn((await this.#engine.execute(input)).output, group.length);
      } catch (error) {
        const isPassing = error instanceof QianmoError && error.kind === 'transient';
        if (!isPassing || attempt === ATTEMPTS_MAX) throw error;
      }
  }

  /** @throws RefusedRequest if the deadline comes first, or the engine fails. */
  async #inTime(deadlineAtMs: number, adapting: Promise<AdaptedTask>): Promise<AdaptedTask> {
    const done = new AbortController();
    const leftMs = deadlineAtMs - this.#clock.monotonicMs();
    const late = this.#clock.sleep(Math.max(0, leftMs), done.signal).then((): never => {
      throw notAdapted('it would pass its deadline', 'send the rows again in a moment');
    });
    try {
      return await Promise.race([adapting, late]);
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      const { what, cure = 'send the rows again' } = error.report;
      throw notAdapted(what, cure);
    } finally {
      done.abort();
      // Aborted with the answer known, it is nobody's failure.
      late.catch(() => undefined);
    }
  }

  #jobsOf(bundle: ServedBundle): AdaptJobs {
    const known = this.#jobs.get(bundle) ?? new AdaptJobs(bundle.digest, bundle.loaded);
    this.#jobs.set(bundle, known);
    return known;
  }
}

function putIn(bundle: ServedBundle, read: ReadRows, task: AdaptedTask): void {
  const { blocks: variables, loss, support } = task;
  const values = { variables, loss, support };
  bundle.live.put(hashOf(read.key), values, read.notesOf(task));
}

/** Rows of an adgroup that a bundle can adapt. */
interface ReadRows {
  readonly key: string;
  readonly rowCount: number;
  readonly adaptation: Adaptation;
  /** @throws RefusedRequest if a value does not fit the bundle. */
  readonly encoded: () => LabelledRows;
  notesOf(task: AdaptedTask): LiveNotes;
}

/** @throws RefusedRequest if it is not known which label the rows have. */
function readRows(loaded: LoadedBundle, live: LiveRows): ReadRows {
  const { manifest } = loaded;
  const labelIndex = labelIndexOf(loaded, live);
  const rowCount = live.rows.length;
  const { adaptation, served } = at(manifest.serving, labelIndex);
  const isAdapted = served.find((each) => isForSize(each, rowCount))?.blocks === 'adapted';
  const innerSteps = isAdapted ? adaptation.innerSteps : 0;
  const calibration = at(manifest.calibrations, labelIndex);
  const loop = methodPlanOf(manifest.method).innerLoop;
  return {
    ...{ key: live.key, rowCount, adaptation: { ...adaptation, innerSteps } },
    encoded: () => encodedRows(loaded, live, labelIndex),
    notesOf: ({ loss, support: { clicks, impressions } }) => ({
      label: labelIndex,
      offset: offsetOf(calibration, loss, { clicks, impressions }),
      supportRows: restsOnSupport(loop, innerSteps) ? rowCount : 0,
      ...{ clicks, impressions },
    }),
  };
}

/** The rows, encoded; null if the bundle cannot read them. */
function readableRows({ loaded }: ServedBundle, live: LiveRows): ReadRows | null {
  try {
    const read = readRows(loaded, live);
    const rows = read.encoded();
    return { ...read, encoded: () => rows };
  } catch (error) {
    if (!(error instanceof RefusedRequest)) throw error;
    return null;
  }
}

/** The name of a part that is not finite, as where steps on values far outside of the training data diverge; null if there is none. */
function divergedPart({ blocks }: AdaptedTask): string | null {
  return [...blocks].find(([, { values }]) => !values.every(Number.isFinite))?.[0] ?? null;
}

function requireFinite(task: AdaptedTask): void {
  const wrong = divergedPart(task);
  if (wrong === null) return;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the block that adapts to these rows is not finite, so the block before stays',
    where: 'rows',
    found: `${wrong} is not finite`,
    cure: 'look for numbers, labels or impressions far outside of those that the bundle was trained on',
  });
}

function labelIndexOf(
  { manifest, index, labels }: LoadedBundle,
  { key, segment }: LiveRows,
): number {
  if (segment !== null) {
    const found = manifest.labels.findIndex((label) => label.segment === segment);
    if (found >= 0) return found;
  } else {
    const block = blockOfKey(index, key);
    if (block !== UNKNOWN_BLOCK) return at(labels, block);
    if (manifest.labels.length === 1) return 0;
  }
  throw refusalOf('wrong-value', 'it is not known which label the rows have', {
    where: 'segment',
    expected: `one of ${manifest.labels.map((label) => label.segment).join(', ')}`,
    found: segment ?? 'no segment, and an adgroup that the bundle does not know',
  });
}

function encodedRows(
  loaded: LoadedBundle,
  { key, rows }: LiveRows,
  labelIndex: number,
): LabelledRows {
  const { manifest, encoder } = loaded;
  const { taskColumns } = manifest;
  const parts = taskColumns.length === 1 ? [key] : key.split(KEY_SEPARATOR);
  const ofKey = Object.fromEntries(taskColumns.map((name, place) => [name, parts[place]]));
  // An expression may read any column.
  const readsKey = encoder.features.some(
    ({ column }) => column === null || Object.hasOwn(ofKey, column),
  );
  const label = at(manifest.labels, labelIndex);
  const encoded = encoder.allocate(rows.length);
  const impressions = Float32Array.from(rows, (row) => row.impressions);
  const clicks = new Float32Array(rows.length);
  for (const [place, row] of rows.entries()) {
    const isClick = label.loss === 'binary';
    if (isClick && (row.label < 0 || row.label > 1))
      throw refusalOf('wrong-value', 'the label of a click is not one', {
        ...{ where: `rows.${place}.label`, expected: 'from 0 to 1: clicks over impressions' },
        found: String(row.label),
      });
    const value = isClick ? row.label : (row.label - label.mean) / label.deviation;
    clicks[place] = value * row.impressions;
    const raw = readsKey ? { ...ofKey, ...row.features } : row.features;
    try {
      encoder.encodeInto(encoded, place, raw, raw);
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      throw refusedValue(error, `rows.${place}`);
    }
  }
  return { rows: encoded, loss: label.loss, clicks, impressions };
}

function hashOf(key: string): readonly [number, number] {
  const { low, high } = keyHashOf(Buffer.from(key));
  return [low, high];
}

function notAdapted(found: string, cure: string): RefusedRequest {
  const what = 'the rows did not adapt, and are not stored';
  return new RefusedRequest({ reason: 'not-adapted', what, found, cure });
}

/**
 * Does a piece of work, and then leaves the thread to requests for so long that the work has its share of the time.
 *
 * @param beside the clock; null where nothing is served yet: the thread then has a turn for other events alone.
 */
async function besideRequests<Result>(
  beside: Clock | null,
  work: () => Result | Promise<Result>,
): Promise<Result> {
  const startMs = beside?.monotonicMs() ?? 0;
  const result = await work();
  if (beside === null) await new Promise((resolve) => setImmediate(resolve));
  else await beside.sleep((beside.monotonicMs() - startMs) * (1 / ADAPTING_SHARE - 1));
  return result;
}
