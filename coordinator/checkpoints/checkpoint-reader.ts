/**
 * Finds the newest complete checkpoint: from `latest.json` to its manifest to its blobs, each of which is
 * verified. If one is damaged, the manifest before it is tried. A checkpoint of another run is never
 * used, and a run never silently starts from nothing.
 */

import { QianmoError } from '../../shared/base/errors.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  type RunEventOf,
  type RunEventSink,
  warningEvent,
} from '../../shared/events/run-events.js';
import { BlobMissingError } from '../../shared/storage/blob-store.js';
import { blobKeyOf, ObjectBlobStore } from '../../shared/storage/object-blob-store.js';
import type { ObjectStore, StoredObject } from '../../shared/storage/object-store.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import { refusalOf, specOf, type CheckpointIdentity } from './checkpoint-identity.js';
import {
  LATEST_KEY,
  MANIFEST_KEY_PREFIX,
  isNamedByDigest,
  outerStepOfKey,
  parseLatest,
  parseManifest,
  type CheckpointManifest,
  type LatestPointer,
  type NamedManifest,
  type StoredTable,
} from './checkpoint-manifest.js';
import { piecesDigest } from './pieces-digest.js';
import { readTensors, type CheckpointPart } from './checkpoint-tensors.js';
import type { TrainingState } from './training-state.js';

interface FoundCheckpoint {
  readonly state: TrainingState;
  readonly manifest: CheckpointManifest;
  readonly manifestKey: string;
  /** The digest of the manifest's bytes. */
  readonly sha256: string;
}

interface CheckpointSearch {
  /** Null if nothing was ever written. */
  readonly found: FoundCheckpoint | null;
  /** Version of `latest.json` before the search; null if it does not exist. */
  readonly latestEtag: string | null;
  /** True if `latest.json` names the checkpoint that was found. */
  readonly isLatest: boolean;
  /** The keys of manifests that could not be used. */
  readonly damagedKeys: readonly string[];
}

/** Retention of a running run may interfere with a reader, which then starts over this often. */
const SEARCH_ATTEMPTS_MAX = 5;

/**
 * @throws QianmoError `usage` if the checkpoint belongs to another config, run or task store; `data` if
 *   there are checkpoints and none is complete.
 */
export async function findLatestCheckpoint(
  store: ObjectStore,
  identity: CheckpointIdentity,
  sink: RunEventSink,
  part: CheckpointPart,
): Promise<CheckpointSearch> {
  for (let attempt = 1; ; attempt += 1) {
    const search = new Search(store, identity, part);
    const latest = await store.get(LATEST_KEY);
    const result = await search.run(latest);
    const isUndisturbed = (await store.get(LATEST_KEY))?.etag === latest?.etag;
    const isClean = result.isLatest || result.warnings.length === 0;
    if (!isClean && !isUndisturbed && attempt < SEARCH_ATTEMPTS_MAX) continue;
    // A failure of kind `data` lists the warnings itself.
    if (result.failure?.kind !== 'data') result.warnings.forEach((warning) => sink(warning));
    if (result.failure !== null) throw result.failure;
    return { ...result, latestEtag: latest?.etag ?? null };
  }
}

/**
 * The checkpoint with the lowest validation loss, where the run was scored, else the latest; null if nothing was
 * ever written. The latest is taken, with a warning, where the best one is damaged.
 *
 * @throws as `findLatestCheckpoint`.
 */
export async function findBestCheckpoint(
  store: ObjectStore,
  identity: CheckpointIdentity,
  sink: RunEventSink,
): Promise<FoundCheckpoint | null> {
  const { found: latest } = await findLatestCheckpoint(store, identity, sink, 'meta');
  if (latest?.manifest.best === undefined) return latest;
  const search = new Search(store, identity, 'meta');
  const found = await search.tryToRead(latest.manifest.best);
  search.warnings.forEach((warning) => sink(warning));
  return found !== null && refusalOf(found.manifest, identity, '') === null ? found : latest;
}

type CheckpointWarning = RunEventOf<'warning'>;

interface SearchResult {
  readonly found: FoundCheckpoint | null;
  readonly isLatest: boolean;
  readonly damagedKeys: readonly string[];
  readonly warnings: readonly CheckpointWarning[];
  readonly failure: QianmoError | null;
}

class Search {
  readonly #store: ObjectStore;
  readonly #identity: CheckpointIdentity;
  readonly #part: CheckpointPart;
  readonly #damagedKeys: string[] = [];
  readonly #damages: string[] = [];
  readonly warnings: CheckpointWarning[] = [];

  constructor(store: ObjectStore, identity: CheckpointIdentity, part: CheckpointPart) {
    this.#store = store;
    this.#identity = identity;
    this.#part = part;
  }

  async run(latest: StoredObject | null): Promise<SearchResult> {
    const pointer = latest === null ? null : this.#readPointer(latest);
    if (pointer !== null) {
      const found = await this.tryToRead(pointer);
      if (found !== null)
        return this.#resultOf(
          found,
          true,
          refusalOf(found.manifest, this.#identity, this.#addressOf(found.manifestKey)),
        );
    }
    const candidates = await this.#candidateKeys(pointer);
    let refusal: QianmoError | null = null;
    for (const key of candidates) {
      const found = await this.tryToRead({ manifest: key, sha256: null });
      if (found === null) continue;
      refusal ??= refusalOf(found.manifest, this.#identity, this.#addressOf(key));
      if (refusalOf(found.manifest, this.#identity, '') !== null) continue;
      if (latest !== null)
        this.warnings.push(
          warningEvent(
            'checkpoint-fallback',
            `continuing from the checkpoint of outer step ${found.manifest.outerStep}, the newest that is whole`,
          ),
        );
      return this.#resultOf(found, false, null);
    }
    const isEmpty = latest === null && candidates.length === 0;
    return this.#resultOf(null, false, isEmpty ? null : (refusal ?? this.#noneIsWhole()));
  }

  #resultOf(
    found: FoundCheckpoint | null,
    isLatest: boolean,
    failure: QianmoError | null,
  ): SearchResult {
    return {
      found,
      isLatest,
      failure,
      damagedKeys: this.#damagedKeys,
      warnings: this.warnings,
    };
  }

  /** Newest first, without those of an earlier start that are beyond the latest. */
  async #candidateKeys(pointer: LatestPointer | null): Promise<string[]> {
    const outerStepMax = pointer?.outerStep ?? Number.POSITIVE_INFINITY;
    return (await this.#store.list(MANIFEST_KEY_PREFIX))
      .filter((key) => {
        const outerStep = outerStepOfKey(key);
        return key !== pointer?.manifest && outerStep !== null && outerStep <= outerStepMax;
      })
      .reverse();
  }

  #readPointer(latest: StoredObject): LatestPointer | null {
    try {
      return parseLatest(latest.bytes, this.#addressOf(LATEST_KEY));
    } catch (cause) {
      this.#warnDamaged('pointer', LATEST_KEY, cause);
      return null;
    }
  }

  /** Null, with a warning, if the checkpoint is damaged or incomplete. */
  async tryToRead({
    manifest: key,
    sha256: digest,
  }: Pick<NamedManifest, 'manifest'> & {
    readonly sha256: string | null;
  }): Promise<FoundCheckpoint | null> {
    try {
      return await this.#read(key, digest);
    } catch (cause) {
      this.#warnDamaged('checkpoint', key, cause);
      this.#damagedKeys.push(key);
      return null;
    }
  }

  async #read(key: string, digest: string | null): Promise<FoundCheckpoint> {
    const where = this.#addressOf(key);
    const damaged = (what: string): QianmoError => new QianmoError({ kind: 'data', what, where });
    const object = await this.#store.get(key);
    if (object === null) throw damaged('the manifest is not there');
    const sha256 = sha256Of(object.bytes);
    const isIntact = digest === null ? isNamedByDigest(key, sha256) : sha256 === digest;
    const manifest = parseManifest(object.bytes, where);
    if (!isIntact) throw damaged('the manifest was changed after it was written');
    // A checkpoint of another run is refused, so its tensors need not be read.
    if (refusalOf(manifest, this.#identity, where) !== null)
      return { state: emptyStateOf(manifest), manifest, manifestKey: key, sha256 };
    const state = await readTensors(manifest, new ObjectBlobStore(this.#store), where, this.#part);
    const { dense } = state.metaParameters;
    const [misfit] = modelMisfits(dense, manifest.tables, specOf(manifest, this.#identity));
    if (misfit !== undefined) throw damaged(`the tensors do not fit the model: ${misfit}`);
    if (!hasDigest(manifest, state))
      throw damaged('the meta-parameters are not those whose digest the manifest gives');
    const { quarantinedTasks, extendedOuterSteps, validated, earlierStores } = manifest;
    const departures = {
      ...(quarantinedTasks === undefined ? {} : { quarantinedTasks }),
      ...(extendedOuterSteps === undefined ? {} : { extendedOuterSteps }),
      ...(validated === undefined ? {} : { validated }),
      ...(earlierStores === undefined ? {} : { earlierStores }),
    };
    return { state: { ...state, ...departures }, manifest, manifestKey: key, sha256 };
  }

  /** @throws the cause if it is not damage. */
  #warnDamaged(part: 'pointer' | 'checkpoint', key: string, cause: unknown): void {
    const reason = damageOf(cause);
    const address = this.#addressOf(key);
    const damage = `${part === 'pointer' ? '' : 'checkpoint '}${address}: ${reason}`;
    this.warnings.push(warningEvent('checkpoint-damaged', damage));
    this.#damages.push(damage);
  }

  #addressOf(key: string): string {
    return `${this.#store.address}/${key}`;
  }

  #noneIsWhole(): QianmoError {
    return new QianmoError({
      kind: 'data',
      what: 'there are checkpoints, but none is complete',
      where: this.#store.address,
      found: `\n${this.#damages.map((damage) => `    ${damage}`).join('\n')}`,
      cure: 'restore the objects named above from a backup, or start again with --fresh',
    });
  }
}

function hasDigest(
  { digestOf, tables, metaParametersDigest: digest }: CheckpointManifest,
  { metaParameters }: TrainingState,
): boolean {
  const found =
    digestOf === 'pieces'
      ? piecesDigest(metaParameters.dense, tables)
      : metaParametersDigest(metaParameters);
  return found === digest;
}

/** Describes the damage of a checkpoint. Other failures are thrown again. */
function damageOf(cause: unknown): string {
  if (cause instanceof BlobMissingError) return `${blobKeyOf(cause.ref)} is not there`;
  if (!(cause instanceof QianmoError) || cause.kind !== 'data') throw cause;
  const { what, where, expected, found } = cause.report;
  const blobKey = /blobs\/[0-9a-f]{64}$/.exec(where ?? '');
  return [
    blobKey === null ? what : `${blobKey[0]}: ${what}`,
    ...(expected === undefined ? [] : [`expected ${expected}`]),
    ...(found === undefined ? [] : [`found ${found}`]),
  ].join(', ');
}

function emptyStateOf(manifest: CheckpointManifest): TrainingState {
  return {
    outerStep: manifest.outerStep,
    metaParameters: { dense: new Map(), tables: new Map() },
    optimizer: { dense: new Map(), tables: new Map(), scalars: {} },
    computedOn: manifest.computedOn,
  };
}

/**
 * How names, shapes and order differ from those of the model, as sentences; empty when they do not.
 */
function modelMisfits(
  dense: NamedTensors,
  tables: readonly StoredTable[],
  spec: ModelSpec,
): string[] {
  const found = [
    ...[...dense].map(([name, { shape }]) => `${name} [${shape.join(', ')}]`),
    ...tables.map(({ name, rowCount, width }) => `table ${name} [${rowCount}, ${width}]`),
  ];
  const expected = [
    ...spec.variables.map(({ name, shape }) => `${name} [${shape.join(', ')}]`),
    ...spec.tables.map((t) => `table ${t.name} [${t.rowCount}, ${spec.tableRowWidth}]`),
  ];
  const misfits: string[] = [];
  for (let index = 0; index < Math.max(found.length, expected.length); index += 1)
    if (found[index] !== expected[index])
      misfits.push(`expected ${expected[index] ?? 'no more'}, found ${found[index] ?? 'no more'}`);
  return misfits;
}
