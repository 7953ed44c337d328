/**
 * Writes the checkpoints of one run to an object store: blobs first, then a manifest that names them, then
 * `latest.json`. Each part is durable before the next one is written, so what is named exists after a power
 * failure too: the bytes of a blob are synced as it is put, the names of all blobs by one flush before the
 * manifest, and manifest and pointer, bytes and name, as they are put.
 *
 * `latest.json` is replaced only while it is the version that this coordinator knows, so that of two
 * coordinators of one run, the abandoned one cannot overwrite the other. Under a claim, the claim decides which
 * one that is.
 */

import { randomUUID } from 'node:crypto';
import {
  CHECKPOINT_FORMAT_VERSION,
  type CheckpointManifest,
  CheckpointManifestSchema,
  LATEST_KEY,
  MANIFEST_KEY_PREFIX,
  type NamedManifest,
  bestOf,
  blobsOf,
  encodeManifest,
  outerStepOfKey,
  parseManifest,
  piecesDigest,
  type TrainingState,
} from './checkpoint-manifest.js';
import {
  type CheckpointIdentity,
  type CheckpointReceipt,
  type SavedMetaParameters,
  encodeDenseState,
  findLatestCheckpoint,
  readMetaParameters,
  grownState,
} from './checkpoint-reader.js';
import { type TableSnapshot, wholeSnapshotOf } from './table-snapshot.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { type RunEventSink, warningEvent } from '../../shared/events/run-events.js';
import { hashAfterDense, metaParametersDigest } from '../../shared/models/meta-parameters.js';
import {
  BLOB_KEY_PREFIX,
  type BlobRef,
  ObjectBlobStore,
  blobKeyOf,
  blobRefOf,
} from '../../shared/storage/blob-store.js';
import type { HeldLease } from '../../shared/storage/lease.js';
import type { ObjectStore, PutCondition, StoredObject } from '../../shared/storage/object-store.js';

interface CheckpointsOptions extends CheckpointIdentity {
  /** A store for the checkpoints of this run and nothing else. */
  readonly store: ObjectStore;
  /** Checkpoints kept, the latest included. */
  readonly kept: number;
  /** A UUID that no other coordinator has; drawn if absent. */
  readonly coordinator?: string;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** The size of the pieces of states that are written without a snapshot. */
  readonly pieceByteCountMax?: number;
  /** The content that the digest of meta-parameters covers: all values, as without this, or the digests of pieces. */
  readonly tableDigest?: 'whole' | 'pieces';
  /** Absent where nothing tells two coordinators apart before the first checkpoint. */
  readonly claim?: Pick<HeldLease, 'demand'>;
}

export interface Checkpoints {
  /**
   * Writes a checkpoint and removes the oldest. A state that is already stored is not written again.
   * Without an earlier call of `latest`, the run replaces whatever is there. Called again only when the
   * call before has settled.
   *
   * @param tables the tables of the state. With them, training may go on meanwhile, and only pieces that changed since
   *   the last checkpoint are written. Without them, every piece may have changed.
   * @throws QianmoError `taken` if another coordinator has taken over the run.
   */
  write(state: TrainingState, tables?: TableSnapshot): Promise<CheckpointReceipt>;
  /**
   * The newest complete checkpoint; null if none was ever written.
   *
   * @throws QianmoError `usage` if it belongs to another config, run or task store; `data` if there are
   *   checkpoints and none is complete.
   */
  latest(): Promise<TrainingState | null>;
  /** As `readMetaParameters`. Absent where no earlier checkpoint can be read. */
  best?(): Promise<SavedMetaParameters | null>;
}

export function openCheckpoints(options: CheckpointsOptions): Checkpoints {
  return new RunCheckpointStore(options);
}

type CheckpointContent = Pick<
  CheckpointManifest,
  | 'dense'
  | 'tables'
  | 'optimizerTables'
  | 'quarantinedTasks'
  | 'extendedOuterSteps'
  | 'validated'
  | 'best'
  | 'earlierStores'
  | 'digestOf'
>;

/** The checkpoint that was written or found last. */
interface WrittenCheckpoint extends CheckpointReceipt {
  readonly outerStep: number;
  readonly extendedOuterSteps: number | undefined;
  readonly validatedCount: number;
}

class RunCheckpointStore implements Checkpoints {
  readonly #options: CheckpointsOptions;
  readonly #blobs: ObjectBlobStore;
  readonly #coordinator: string;
  /** Version of `latest.json` that this coordinator may replace; undefined until it was read. */
  #latestEtag: string | null | undefined;
  /** The bytes sent as `latest.json`. If the put failed, it is not known whether they arrived. */
  #sentLatestBytes: Uint8Array | null = null;
  #last: WrittenCheckpoint | null = null;
  /** The last checkpoint of the tables `of`, read or written. */
  #earlier: { readonly of: object; readonly checkpoint: CheckpointManifest } | null = null;
  /** The checkpoint with the lowest validation loss, and its outer step. */
  #best: (NamedManifest & { readonly outerStep: number }) | null = null;
  /** Digests of the last checkpoint's blobs, which were read back or written and verified. */
  #verifiedBlobs = new Set<string>();
  #knownKeys = new Set<string>();
  #damagedKeys: readonly string[] = [];

  constructor(options: CheckpointsOptions) {
    this.#options = options;
    this.#coordinator = options.coordinator ?? randomUUID();
    this.#blobs = new ObjectBlobStore(options.store, 'at-flush');
  }

  async latest(): Promise<TrainingState | null> {
    const { store, sink } = this.#options;
    const search = await findLatestCheckpoint(store, this.#options, sink, 'all');
    const { found, isLatest } = search;
    this.#latestEtag = search.latestEtag;
    this.#damagedKeys = search.damagedKeys;
    this.#knownKeys = new Set(await store.list(MANIFEST_KEY_PREFIX));
    if (found === null) return null;
    const { manifest, manifestKey, sha256, state } = found;
    const { storeDigest, spec } = this.#options;
    // Nothing of it can be kept, as most pieces of tables are others.
    if (manifest.storeDigest !== storeDigest) return grownState(state, manifest.storeDigest, spec);
    this.#verifiedBlobs = new Set(blobsOf(manifest).map((blob) => blob.sha256));
    this.#earlier = { of: state.metaParameters.tables, checkpoint: manifest };
    this.#rememberBest(manifest, { manifest: manifestKey, sha256 });
    if (isLatest) this.#remember(manifest, manifestKey);
    return state;
  }

  best(): Promise<SavedMetaParameters | null> {
    return readMetaParameters(this.#options);
  }

  async write(state: TrainingState, tables?: TableSnapshot): Promise<CheckpointReceipt> {
    const { pieceByteCountMax } = this.#options;
    const snapshot = tables ?? wholeSnapshotOf(state, pieceByteCountMax);
    const last = this.#last;
    if (last !== null && this.#isStored(state, snapshot)) return receiptOf(last);

    // Checked before the upload, so that an abandoned coordinator does not fill the store.
    await this.#options.claim?.demand();
    const latestEtag = await this.#ownLatestEtag();
    const manifest = await this.#storeBlobs(state, snapshot);
    await this.#options.store.flush?.();
    const { key, sha256, bytes, latestBytes } = encodeManifest(manifest);
    await this.#putManifest(key, bytes);
    await this.#replaceLatest(latestBytes, latestEtag, key);

    this.#verifiedBlobs = new Set(blobsOf(manifest).map((blob) => blob.sha256));
    this.#earlier = { of: snapshot.of, checkpoint: manifest };
    this.#rememberBest(manifest, { manifest: key, sha256 });
    const written = this.#remember(manifest, key);
    await this.#removeOld(key, manifest.best?.manifest);
    return receiptOf(written);
  }

  /** True if the last checkpoint has this state. */
  #isStored(
    { outerStep, extendedOuterSteps, validated, metaParameters }: TrainingState,
    { of }: TableSnapshot,
  ): boolean {
    if (this.#last?.outerStep !== outerStep) return false;
    if (this.#last.extendedOuterSteps !== extendedOuterSteps) return false;
    if (this.#last.validatedCount !== (validated?.length ?? 0)) return false;
    return this.#earlier?.of === of || metaParametersDigest(metaParameters) === this.#last.digest;
  }

  async #storeBlobs(state: TrainingState, snapshot: TableSnapshot): Promise<CheckpointManifest> {
    const present = new Set(await this.#options.store.list(BLOB_KEY_PREFIX));
    const isThere = (ref: BlobRef): boolean => present.has(blobKeyOf(ref));
    const put = this.#blobWriter(isThere);
    const { dense: variables } = state.metaParameters;
    const hash = this.#options.tableDigest === 'pieces' ? null : hashAfterDense(variables);
    const earlier = this.#earlier?.of === snapshot.of ? this.#earlier.checkpoint : null;
    const dense = await put(encodeDenseState(state));
    const tables = await snapshot.store({ earlier, put, isThere, hash });
    const { quarantinedTasks, extendedOuterSteps, validated, earlierStores } = state;
    const departures = {
      ...(quarantinedTasks === undefined ? {} : { quarantinedTasks: [...quarantinedTasks] }),
      ...(extendedOuterSteps === undefined ? {} : { extendedOuterSteps }),
      ...(validated === undefined ? {} : { validated: [...validated] }),
      ...this.#earlierBestOf(state),
      ...(earlierStores === undefined ? {} : { earlierStores: [...earlierStores] }),
    };
    const digest = hash?.digest('hex') ?? piecesDigest(variables, tables.tables);
    const kind = hash === null ? ({ digestOf: 'pieces' } as const) : {};
    return this.#manifestOf(state, digest, { dense, ...tables, ...departures, ...kind });
  }

  /** Every manifest names the best checkpoint up to it, so one conditional write replaces both pointers. */
  #earlierBestOf({ outerStep, validated }: TrainingState): Pick<CheckpointManifest, 'best'> {
    const bestStep = bestOf(validated)?.outerStep;
    if (this.#best === null || bestStep === outerStep || bestStep !== this.#best.outerStep)
      return {};
    const { manifest, sha256 } = this.#best;
    return { best: { manifest, sha256 } };
  }

  #rememberBest({ outerStep, validated, best }: CheckpointManifest, itself: NamedManifest): void {
    const bestStep = bestOf(validated)?.outerStep;
    const named = bestStep === outerStep ? itself : best;
    this.#best =
      bestStep === undefined || named === undefined ? null : { ...named, outerStep: bestStep };
  }

  #remember(manifest: CheckpointManifest, key: string): WrittenCheckpoint {
    this.#last = {
      outerStep: manifest.outerStep,
      address: `${this.#options.store.address}/${key}`,
      digest: manifest.metaParametersDigest,
      extendedOuterSteps: manifest.extendedOuterSteps,
      validatedCount: manifest.validated?.length ?? 0,
    };
    return this.#last;
  }

  #manifestOf(
    { outerStep, computedOn }: TrainingState,
    digest: string,
    content: CheckpointContent,
  ): CheckpointManifest {
    const { runName, configHash, deciding, storeDigest, clock } = this.#options;
    return CheckpointManifestSchema.parse({
      formatVersion: CHECKPOINT_FORMAT_VERSION,
      run: runName,
      outerStep,
      created: new Date(clock.epochMs()).toISOString(),
      coordinator: this.#coordinator,
      configHash,
      decidingConfig: JSON.parse(canonicalJson(deciding)) as unknown,
      storeDigest,
      computedOn,
      metaParametersDigest: digest,
      ...content,
    });
  }

  /** Skips blobs that the last checkpoint verified and that still exist, and those of this one. */
  #blobWriter(isThere: (ref: BlobRef) => boolean): (bytes: Uint8Array) => Promise<BlobRef> {
    const put = new Set<string>();
    return async (bytes) => {
      const ref = blobRefOf(bytes);
      if (put.has(ref.sha256) || (this.#verifiedBlobs.has(ref.sha256) && isThere(ref))) return ref;
      await this.#blobs.putVerified(bytes, ref);
      put.add(ref.sha256);
      return ref;
    };
  }

  async #putManifest(key: string, bytes: Uint8Array): Promise<void> {
    const { store } = this.#options;
    this.#knownKeys.add(key);
    await store.put(key, bytes, { kind: 'absent' });
    const found = await store.get(key);
    if (found !== null && areEqual(found.bytes, bytes)) return;
    // A process that has taken over the run may have removed it.
    await this.#options.claim?.demand();
    throw errorOf('environment', 'the object store does not return what was written', {
      where: `${store.address}/${key}`,
      cure: 'check whether something else deletes or changes objects there, and whether the disk is failing',
    });
  }

  /**
   * @throws QianmoError `taken` if `latest.json` is neither the known version nor what this coordinator
   *   has sent.
   */
  async #ownLatestEtag(): Promise<string | null> {
    const found = await this.#options.store.get(LATEST_KEY);
    const etag = found?.etag ?? null;
    if (this.#latestEtag === undefined)
      this.#knownKeys = new Set(await this.#options.store.list(MANIFEST_KEY_PREFIX));
    if (this.#latestEtag === undefined || this.#isSent(found)) this.#latestEtag = etag;
    if (etag === this.#latestEtag) return etag;
    await this.#demandRightToReplace(found);
    this.#latestEtag = etag;
    return etag;
  }

  async #replaceLatest(bytes: Uint8Array, etag: string | null, manifestKey: string): Promise<void> {
    const { store } = this.#options;
    const condition: PutCondition =
      etag === null ? { kind: 'absent' } : { kind: 'unchanged', etag };
    // An upload takes long enough for another coordinator to take over.
    await this.#options.claim?.demand();
    this.#sentLatestBytes = bytes;
    const written = await store.put(LATEST_KEY, bytes, condition);
    if (written !== null) {
      this.#latestEtag = written;
      return;
    }
    const found = await store.get(LATEST_KEY);
    if (found !== null && this.#isSent(found)) {
      this.#latestEtag = found.etag;
      return;
    }
    try {
      await this.#demandRightToReplace(found);
    } catch (error) {
      await store.delete(manifestKey);
      throw error;
    }
    await this.#replaceLatest(bytes, found?.etag ?? null, manifestKey);
  }

  /**
   * A coordinator that was suspended between its check and its write may have replaced `latest.json` after
   * its claim was taken over. Whoever has the claim replaces it again.
   *
   * @throws QianmoError `taken` if this coordinator has no claim.
   */
  async #demandRightToReplace(found: StoredObject | null): Promise<void> {
    const { claim } = this.#options;
    if (claim === undefined || found === null) throw this.#takenOver(found);
    await claim.demand();
  }

  #isSent(found: StoredObject | null): boolean {
    return (
      found !== null &&
      this.#sentLatestBytes !== null &&
      areEqual(found.bytes, this.#sentLatestBytes)
    );
  }

  #takenOver(found: StoredObject | null): QianmoError {
    const { store, runName } = this.#options;
    return new QianmoError({
      kind: found === null ? 'failed' : 'taken',
      what:
        found === null
          ? 'the pointer to the latest checkpoint was removed during this run'
          : `another coordinator wrote a checkpoint of run ${runName} during this run`,
      where: `${store.address}/${LATEST_KEY}`,
      cure: 'run only one coordinator; this one has stopped without overwriting anything',
    });
  }

  /** The checkpoint is durable at this point, so leftovers are a warning and not a failure. */
  async #removeOld(latestKey: string, bestKey: string | undefined): Promise<void> {
    const { store, kept, sink } = this.#options;
    try {
      await removeOldCheckpoints(store, {
        ...{ bestKey, kept, knownKeys: this.#knownKeys },
        latest: { key: latestKey, etag: this.#latestEtag ?? null },
        damagedKeys: new Set(this.#damagedKeys),
      });
    } catch (cause) {
      if (!(cause instanceof QianmoError)) throw cause;
      sink(
        warningEvent('old-checkpoints-kept', `old checkpoints were not removed: ${cause.message}`),
      );
    }
  }
}

function receiptOf({ address, digest }: CheckpointReceipt): CheckpointReceipt {
  return { address, digest };
}

function areEqual(first: Uint8Array, second: Uint8Array): boolean {
  return Buffer.compare(first, second) === 0;
}

interface Retention {
  /** The checkpoint that this coordinator has just written. */
  readonly latest: { readonly key: string; readonly etag: string | null };
  /** Checkpoints kept, the latest included. */
  readonly kept: number;
  /**
   * Manifests that existed when this coordinator began, and its own. Any other may belong to a
   * coordinator that has taken over since and may be about to become the latest.
   */
  readonly knownKeys: ReadonlySet<string>;
  /** The checkpoint with the lowest validation loss, if it is not the latest. */
  readonly bestKey: string | undefined;
  /** Manifests that could not be read. */
  readonly damagedKeys: ReadonlySet<string>;
}

/**
 * Another coordinator may have put a younger blob for a manifest that it has not written yet. The upload of
 * one checkpoint takes less time than this.
 */
const ORPHAN_AGE_MIN_MS = 3_600_000;

const BLOB_KEY = new RegExp(`^${BLOB_KEY_PREFIX}[0-9a-f]{64}$`);

/**
 * Keeps the latest, the newest of earlier outer steps, and the one with the lowest validation loss. Others of the same or
 * a later step were left by failed attempts or by an earlier start of the run, and are removed too: the manifest first,
 * then the blobs that no other manifest names. Blobs of checkpoints that were cut off are removed once they are old.
 * Nothing of them is removed while there is a manifest that cannot be read, since the blobs that it names are not known.
 * Ages are differences of the store's own times, so clocks of other machines do not count.
 */
async function removeOldCheckpoints(
  store: ObjectStore,
  { latest, bestKey, kept, knownKeys, damagedKeys }: Retention,
): Promise<void> {
  // Blobs are listed before the manifests: a manifest is written after the blobs that it names.
  const blobs = await store.listWithTimes(BLOB_KEY_PREFIX);
  const manifests = await store.listWithTimes(MANIFEST_KEY_PREFIX);
  const known = manifests
    .map(({ key }) => key)
    .filter((key) => knownKeys.has(key) && outerStepOfKey(key) !== null);
  const latestStep = outerStepOfKey(latest.key) ?? 0;
  const earlier = known.filter(
    (key) => !damagedKeys.has(key) && (outerStepOfKey(key) ?? 0) < latestStep,
  );
  const keptKeys = new Set([latest.key, bestKey, ...earlier.reverse().slice(0, kept - 1)]);
  const doomed = new Set(known.filter((key) => !keptKeys.has(key)));
  const named = new Set<string>();
  const doomedBlobs = new Set<string>();
  let isEachRead = true;
  for (const { key } of manifests) {
    const refs = await blobsNamedBy(store, key);
    isEachRead &&= refs !== null || doomed.has(key);
    for (const ref of refs ?? []) (doomed.has(key) ? doomedBlobs : named).add(blobKeyOf(ref));
  }
  for (const key of doomed) await store.delete(key);
  const writtenMs = manifests.find(({ key }) => key === latest.key)?.modifiedMs ?? 0;
  for (const { key, modifiedMs } of blobs) {
    if (named.has(key) || !BLOB_KEY.test(key)) continue;
    if (!doomedBlobs.has(key)) {
      if (!isEachRead || modifiedMs >= writtenMs - ORPHAN_AGE_MIN_MS) continue;
      // Another coordinator may use blobs of a checkpoint that was cut off.
      if ((await store.get(LATEST_KEY))?.etag !== latest.etag) return;
    }
    await store.delete(key);
  }
}

/** Null if the manifest is damaged, since the blobs it named are not known. Empty if it is gone. */
async function blobsNamedBy(store: ObjectStore, key: string): Promise<BlobRef[] | null> {
  const object = await store.get(key);
  if (object === null) return [];
  try {
    return blobsOf(parseManifest(object.bytes, `${store.address}/${key}`));
  } catch (cause) {
    if (cause instanceof QianmoError && cause.kind === 'data') return null;
    throw cause;
  }
}
