/**
 * Finds the newest complete checkpoint: from `latest.json` to its manifest to its blobs, each of which is
 * verified. If one is damaged, the manifest before it is tried. A checkpoint of another run is never
 * used, and a run never silently starts from nothing.
 */

import {
  type CheckpointManifest,
  LATEST_KEY,
  MANIFEST_KEY_PREFIX,
  type NamedManifest,
  type StoredTable,
  isNamedByDigest,
  outerStepOfKey,
  parseLatest,
  parseManifest,
  piecesDigest,
  type TrainingState,
} from './checkpoint-manifest.js';
import { at, float64At } from '../../shared/base/arrays.js';
import { isRecord } from '../../shared/base/canonical-json.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { configDifferences } from '../../shared/config/run-config.js';
import {
  type RunEventOf,
  type RunEventSink,
  warningEvent,
} from '../../shared/events/run-events.js';
import { type MetaParameters, metaParametersDigest } from '../../shared/models/meta-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  BlobMissingError,
  type BlobStore,
  ObjectBlobStore,
  blobKeyOf,
} from '../../shared/storage/blob-store.js';
import type { ObjectStore, StoredObject } from '../../shared/storage/object-store.js';
import type {
  EmbeddingTable,
  DenseTensor,
  NamedTensors,
} from '../../shared/tensors/named-tensors.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import {
  type CodedTensor,
  decodeTensors,
  encodeTensors,
} from '../../shared/tensors/tensor-codec.js';
import { UNKNOWN_ID } from '../../shared/features/encoding-rules.js';

type EarlierStore = NonNullable<TrainingState['earlierStores']>[number];

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
async function findBestCheckpoint(
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
  async #candidateKeys(pointer: ReturnType<typeof parseLatest> | null): Promise<string[]> {
    const outerStepMax = pointer?.outerStep ?? Number.POSITIVE_INFINITY;
    return (await this.#store.list(MANIFEST_KEY_PREFIX))
      .filter((key) => {
        const outerStep = outerStepOfKey(key);
        return key !== pointer?.manifest && outerStep !== null && outerStep <= outerStepMax;
      })
      .reverse();
  }

  #readPointer(latest: StoredObject): ReturnType<typeof parseLatest> | null {
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
    return errorOf('data', 'there are checkpoints, but none is complete', {
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

/** How names, shapes and order differ from those of the model, as sentences; empty when they do not. */
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

/** The run, config, store and model that a usable checkpoint was made from. */
export interface CheckpointIdentity {
  readonly runName: string;
  readonly configHash: string;
  /** The part of the config that the hash covers. */
  readonly deciding: Record<string, unknown>;
  readonly storeDigest: string;
  readonly spec: ModelSpec;
  /** Absent where a checkpoint of the store as it was before logs were appended is of no use. */
  readonly growth?: StoreGrowth;
}

/** The task store as it was before logs were appended to it. */
interface StoreGrowth {
  /** The model on the store when it had this digest; null if it never had. */
  specAt(storeDigest: string): ModelSpec | null;
}

/** The reason why this run must not use a checkpoint; null if it may. */
function refusalOf(
  manifest: CheckpointManifest,
  identity: CheckpointIdentity,
  where: string,
): QianmoError | null {
  const refuse = (what: string, expected: string, found: string, cure: string): QianmoError =>
    new QianmoError({ kind: 'usage', what, where, expected, found, cure });
  if (manifest.run !== identity.runName)
    return refuse(
      'this output contains the checkpoints of another run',
      `checkpoints of run ${identity.runName}`,
      `checkpoints of run ${manifest.run}`,
      'choose another output for this run, or start again here with --fresh',
    );
  if (manifest.configHash !== identity.configHash && !isExtendedTo(identity, manifest)) {
    const differences = configDifferences(manifest.decidingConfig, identity.deciding);
    return refuse(
      'the checkpoint was made with another config',
      `the config of the checkpoint, ${manifest.configHash.slice(0, 12)}`,
      `${identity.configHash.slice(0, 12)}, which differs in (checkpoint -> now)\n${differences
        .map((difference) => `    ${difference}`)
        .join('\n')}`,
      differences.some((difference) => /\.plugin: /.test(difference))
        ? 'give --plugin the file that the run started with, choose another output, or start again here with --fresh'
        : 'restore these fields, choose another output, or start again here with --fresh',
    );
  }
  if (manifest.storeDigest === identity.storeDigest) return null;
  const { growth } = identity;
  if (growth === undefined || growth.specAt(manifest.storeDigest) === null)
    return refuse(
      'the checkpoint was made from another task store',
      `a store with digest ${manifest.storeDigest}${growth === undefined ? '' : ', or one that logs were appended to since'}`,
      `one with digest ${identity.storeDigest}`,
      'name the store that the run started with, choose another output, or start again with --fresh',
    );
  return null;
}

/** The model on the store that a checkpoint was made from. */
function specOf(
  { storeDigest }: CheckpointManifest,
  { storeDigest: current, spec, growth }: CheckpointIdentity,
): ModelSpec {
  return storeDigest === current ? spec : (growth?.specAt(storeDigest) ?? spec);
}

/** True for a config with the length that the run was extended to that is otherwise that of the checkpoint. */
function isExtendedTo(
  { deciding }: CheckpointIdentity,
  { decidingConfig, extendedOuterSteps }: CheckpointManifest,
): boolean {
  if (extendedOuterSteps === undefined) return false;
  const training = { outerSteps: extendedOuterSteps };
  const extended = {
    ...decidingConfig,
    training: {
      ...(isRecord(decidingConfig['training']) ? decidingConfig['training'] : {}),
      ...training,
    },
  };
  return configDifferences(extended, deciding).length === 0;
}

export interface CheckpointReceipt {
  readonly address: string;
  /** The digest of the meta-parameters. */
  readonly digest: string;
}

export interface SavedMetaParameters extends CheckpointReceipt {
  readonly outerStep: number;
  readonly metaParameters: MetaParameters;
  readonly computedOn: TrainingState['computedOn'];
  readonly earlierStores: readonly EarlierStore[];
  /** It was chosen by its validation loss, so that later outer steps are no loss. */
  readonly isChosen: boolean;
}

/** The checkpoint with the lowest validation loss, or the latest where none was scored, without the optimizer's tables. */
export async function readMetaParameters(
  options: CheckpointIdentity & { readonly store: ObjectStore; readonly sink: RunEventSink },
): Promise<SavedMetaParameters | null> {
  const { store, sink } = options;
  const found = await findBestCheckpoint(store, options, sink);
  if (found === null) return null;
  return {
    outerStep: found.state.outerStep,
    metaParameters: found.state.metaParameters,
    computedOn: found.state.computedOn,
    earlierStores: found.state.earlierStores ?? [],
    isChosen: found.manifest.validated !== undefined,
    address: `${store.address}/${found.manifestKey}`,
    digest: found.manifest.metaParametersDigest,
  };
}

/** The part of a checkpoint to read. `meta` does not read the state of the optimizer. */
type CheckpointPart = 'all' | 'meta';

/** One tensor each: `meta/NAME`, `optimizer/NAME`, `scalar/NAME`. */
export function encodeDenseState({ metaParameters, optimizer }: TrainingState): Uint8Array {
  const dense = new Map<string, CodedTensor>();
  for (const [name, tensor] of metaParameters.dense) dense.set(`meta/${name}`, tensor);
  for (const [name, tensor] of optimizer.dense) dense.set(`optimizer/${name}`, tensor);
  for (const [name, value] of Object.entries(optimizer.scalars))
    dense.set(`scalar/${name}`, { shape: [], values: Float64Array.of(value) });
  return encodeTensors(dense);
}

/**
 * @throws QianmoError `data` if a blob is damaged or does not fit the manifest; BlobMissingError if one
 *   is gone.
 */
async function readTensors(
  manifest: CheckpointManifest,
  blobs: BlobStore,
  where: string,
  part: CheckpointPart,
): Promise<TrainingState> {
  const metaDense = new Map<string, DenseTensor>();
  const optimizerDense = new Map<string, DenseTensor>();
  const byRole = new Map([
    ['meta', metaDense],
    ['optimizer', optimizerDense],
  ]);
  const scalars: Record<string, number> = {};
  const coded = decodeTensors(await blobs.get(manifest.dense), where);
  for (const [codedName, { shape, values }] of coded) {
    const [role, name] = splitOnce(codedName);
    if (role === 'scalar' && values instanceof Float64Array) scalars[name] = float64At(values, 0);
    else if (values instanceof Float32Array && byRole.has(role))
      byRole.get(role)?.set(name, { shape, values });
    else throw misfit(where, `a tensor "${codedName}" that belongs to no part of a checkpoint`);
  }
  const isWhole = part === 'all';
  return {
    outerStep: manifest.outerStep,
    metaParameters: {
      dense: metaDense,
      tables: await readTables(manifest.tables, blobs, where),
    },
    optimizer: {
      dense: isWhole ? optimizerDense : new Map(),
      tables: isWhole ? await readTables(manifest.optimizerTables, blobs, where) : new Map(),
      scalars: isWhole ? scalars : {},
    },
    computedOn: manifest.computedOn,
  };
}

async function readTables(
  stored: readonly StoredTable[],
  blobs: BlobStore,
  where: string,
): Promise<Map<string, EmbeddingTable>> {
  const tables = new Map<string, EmbeddingTable>();
  for (const { name, rowCount, width, pieces } of stored) {
    // The manifest may name any number: room is made only for rows that the blobs can hold.
    const byteCount = pieces.reduce((sum, { blob }) => sum + blob.byteCount, 0);
    if (rowCount * width * Float32Array.BYTES_PER_ELEMENT > byteCount)
      throw misfit(
        where,
        `${byteCount} bytes of blobs for table "${name}" [${rowCount}, ${width}]`,
      );
    const values = new Float32Array(rowCount * width);
    let nextRow = 0;
    for (const piece of pieces) {
      const rows = decodeTensors(await blobs.get(piece.blob), where).get('rows');
      const isFitting =
        piece.firstRow === nextRow &&
        rows?.values instanceof Float32Array &&
        rows.shape.join() === `${piece.rowCount},${width}` &&
        nextRow + piece.rowCount <= rowCount;
      if (!isFitting) throw misfit(where, `a piece of table "${name}" that does not fit in`);
      values.set(rows.values, nextRow * width);
      nextRow += piece.rowCount;
    }
    if (nextRow !== rowCount)
      throw misfit(where, `${nextRow} of ${rowCount} rows of table "${name}"`);
    tables.set(name, { rowCount, width, values });
  }
  return tables;
}

function splitOnce(codedName: string): [string, string] {
  const slash = codedName.indexOf('/');
  return [codedName.slice(0, slash), codedName.slice(slash + 1)];
}

function misfit(where: string, found: string): QianmoError {
  return errorOf('data', 'the tensors of a checkpoint do not fit its manifest', { where, found });
}

/** @param spec of the grown store; its tables have as many rows as before, or more. */
export function grownParameters(parameters: MetaParameters, spec: ModelSpec): MetaParameters {
  const tables = new Map<string, EmbeddingTable>();
  for (const { name, rowCount } of spec.tables) {
    const table = parameters.tables.get(name);
    if (table === undefined) throw new Error(`there is no table ${name}`);
    tables.set(name, grownTable(table, rowCount, unknownRow(table)));
  }
  const dense = new Map(parameters.dense);
  for (const { name, shape } of spec.variables.filter(({ isFixed }) => isFixed === true)) {
    const variable = parameters.dense.get(name);
    if (variable === undefined) throw new Error(`there is no variable ${name}`);
    const [before, rowCount, width] = [at(variable.shape, 0), at(shape, 0), at(shape, 1)];
    const table = { rowCount: before, width, values: variable.values };
    dense.set(name, { shape, values: grownTable(table, rowCount, unknownRow(table)).values });
  }
  return { dense, tables };
}

/**
 * A state of the store before logs were appended, to train on with the store as it is. The optimizer has seen no
 * gradient of new rows: its rows are 0, as they are at the start.
 *
 * @param storeDigest of the store that the state was trained on
 */
export function grownState(
  state: TrainingState,
  storeDigest: string,
  spec: ModelSpec,
): TrainingState {
  // Scores on other rows cannot be compared with those to come.
  const { validated: _, ...others } = state;
  const { outerStep, optimizer, earlierStores = [] } = others;
  const metaParameters = grownParameters(state.metaParameters, spec);
  const tables = new Map<string, EmbeddingTable>();
  for (const [name, table] of optimizer.tables) {
    const grown = metaParameters.tables.get(name.slice(name.indexOf('/') + 1));
    if (grown === undefined) throw new Error(`there is no table for ${name}`);
    tables.set(name, grownTable(table, grown.rowCount, new Float32Array(table.width)));
  }
  return {
    ...{ ...others, metaParameters, optimizer: { ...optimizer, tables } },
    earlierStores: [...earlierStores, { outerStep, storeDigest }],
  };
}

/** @param newRow what each new row is */
function grownTable(table: EmbeddingTable, rowCount: number, newRow: Float32Array): EmbeddingTable {
  const { width, rowCount: before } = table;
  if (rowCount === before) return table;
  if (rowCount < before) throw new Error(`a table of ${before} rows has no ${rowCount}`);
  const values = new Float32Array(rowCount * width);
  values.set(table.values);
  for (let row = before; row < rowCount; row += 1) values.set(newRow, row * width);
  return { rowCount, width, values };
}

function unknownRow({ width, values }: EmbeddingTable): Float32Array {
  return values.subarray(UNKNOWN_ID * width, (UNKNOWN_ID + 1) * width);
}
