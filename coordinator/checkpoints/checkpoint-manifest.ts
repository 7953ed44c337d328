/**
 * A checkpoint on disk: a manifest that names immutable blobs, and `latest.json` that names the manifest.
 * A name is written after what it names, so everything that is named exists.
 */

import { z } from 'zod';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { FingerprintSchema } from '../../shared/events/device-report.js';
import {
  hashAfterDense,
  tableLine,
  type MetaParameters,
} from '../../shared/models/meta-parameters.js';
import { type BlobRef, BlobRefSchema } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type {
  NamedTensors,
  EmbeddingTable,
  DenseTensor,
} from '../../shared/tensors/named-tensors.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';

/** Raised when the meaning of a manifest changes. */
export const CHECKPOINT_FORMAT_VERSION = 1;

export const MANIFEST_KEY_PREFIX = 'manifests/';
export const LATEST_KEY = 'latest.json';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().nonnegative();

/** A manifest, by its key and the digest of its bytes. */
const NamedManifestSchema = z.strictObject({
  manifest: z.string().startsWith(MANIFEST_KEY_PREFIX),
  sha256,
});
export type NamedManifest = z.infer<typeof NamedManifestSchema>;

const VALIDATED_COUNT_MAX = 1_000_000;

const ValidatedStepSchema = z.strictObject({
  outerStep: z.int().nonnegative(),
  /** Logloss an impression, or squared error a row. */
  loss: z.number(),
});
const ValidatedStepsSchema = z.array(ValidatedStepSchema).max(VALIDATED_COUNT_MAX);
export type ValidatedStep = z.infer<typeof ValidatedStepSchema>;

const StoredTableSchema = z.strictObject({
  /** The feature, or `STAGE/FEATURE` for a table of the optimizer. */
  name: z.string().min(1),
  rowCount: count,
  width: count,
  /** In order of rows, without gaps. Each holds one tensor `rows` `[rowCount, width]`. */
  pieces: z.array(z.strictObject({ firstRow: count, rowCount: count, blob: BlobRefSchema })),
});

export const CheckpointManifestSchema = z.strictObject({
  formatVersion: z.literal(CHECKPOINT_FORMAT_VERSION),
  run: z.string().min(1),
  outerStep: count,
  created: z.iso.datetime(),
  /**
   * Drawn by the coordinator that wrote it, so that two that write the same state can be told
   * apart.
   */
  coordinator: z.uuid(),
  configHash: z.string(),
  /** The part of the config that the hash covers, so that differences can be shown. */
  decidingConfig: z.record(z.string(), z.json()),
  storeDigest: z.string(),
  /** The stores that it was before logs were appended, each with the outer step up to which it was trained on. */
  earlierStores: z.array(z.strictObject({ outerStep: count, storeDigest: z.string() })).optional(),
  /** The kinds of machines that computed the run, each from after an outer step on. */
  computedOn: z.array(z.strictObject({ outerStep: count, fingerprint: FingerprintSchema })),
  metaParametersDigest: sha256,
  /** If so, that digest is over the digests of the pieces (see `piecesDigest`), else over all values. */
  digestOf: z.literal('pieces').optional(),
  /** The tasks that the run leaves out, each from an outer step on. The digest stands for them too. */
  quarantinedTasks: z
    .array(z.strictObject({ outerStep: count, taskIndex: count, key: z.string() }))
    .optional(),
  /** The number of outer steps that the run was extended to while it ran. */
  extendedOuterSteps: z.int().positive().optional(),
  /** The scores on validation adgroups so far, where training stops early. */
  validated: ValidatedStepsSchema.optional(),
  /** The checkpoint with the lowest of these scores; absent if it is this one. */
  best: NamedManifestSchema.optional(),
  /** Safetensors: `meta/NAME`, `optimizer/NAME` and the optimizer's scalars as `scalar/NAME`. */
  dense: BlobRefSchema,
  tables: z.array(StoredTableSchema),
  optimizerTables: z.array(StoredTableSchema),
});
export type CheckpointManifest = z.infer<typeof CheckpointManifestSchema>;
export type StoredTable = z.infer<typeof StoredTableSchema>;

const LatestSchema = NamedManifestSchema.extend({
  formatVersion: z.literal(CHECKPOINT_FORMAT_VERSION),
  outerStep: count,
});
type LatestPointer = z.infer<typeof LatestSchema>;

/** Steps sort as text up to the largest that a config allows. */
const OUTER_STEP_DIGITS = 9;

/** Manifest and pointer as bytes; the key names the step and the content. */
export function encodeManifest(manifest: CheckpointManifest): {
  readonly key: string;
  readonly sha256: string;
  readonly bytes: Uint8Array;
  readonly latestBytes: Uint8Array;
} {
  const bytes = Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
  const digest = sha256Of(bytes);
  const step = String(manifest.outerStep).padStart(OUTER_STEP_DIGITS, '0');
  const key = `${MANIFEST_KEY_PREFIX}${step}-${digest.slice(0, 8)}.json`;
  const latest: LatestPointer = {
    formatVersion: CHECKPOINT_FORMAT_VERSION,
    outerStep: manifest.outerStep,
    manifest: key,
    sha256: digest,
  };
  return {
    key,
    sha256: digest,
    bytes,
    latestBytes: Buffer.from(`${JSON.stringify(latest, null, 2)}\n`),
  };
}

/**
 * @throws QianmoError `data` if the bytes are damaged, `environment` if another version of the program
 *   wrote them.
 */
export function parseManifest(bytes: Uint8Array, where: string): CheckpointManifest {
  return parse(CheckpointManifestSchema, bytes, where, 'a checkpoint manifest cannot be read');
}

export function parseLatest(bytes: Uint8Array, where: string): LatestPointer {
  return parse(LatestSchema, bytes, where, 'the pointer to a checkpoint cannot be read');
}

const MANIFEST_KEY = new RegExp(
  `^${MANIFEST_KEY_PREFIX}(\\d{${OUTER_STEP_DIGITS},})-[0-9a-f]{8}\\.json$`,
);

/** The outer step that a key names; null if the key is not that of a manifest. */
export function outerStepOfKey(key: string): number | null {
  const step = MANIFEST_KEY.exec(key)?.[1];
  return step === undefined ? null : Number(step);
}

/** Returns whether the name after the step is the beginning of the digest. */
export function isNamedByDigest(key: string, digest: string): boolean {
  return key.endsWith(`-${digest.slice(0, 8)}.json`);
}

export function blobsOf(manifest: CheckpointManifest): BlobRef[] {
  const pieces = [...manifest.tables, ...manifest.optimizerTables].flatMap((t) => t.pieces);
  return [manifest.dense, ...pieces.map((piece) => piece.blob)];
}

function parse<Value>(
  schema: z.ZodType<Value>,
  bytes: Uint8Array,
  where: string,
  what: string,
): Value {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw new QianmoError({ kind: 'data', what, where, found: 'text that is not JSON', cause });
  }
  refuseOtherVersion(value, where);
  let result: z.ZodSafeParseResult<Value>;
  try {
    result = schema.safeParse(value);
  } catch (cause) {
    // The stack ends before the nesting does.
    throw new QianmoError({ kind: 'data', what, where, found: 'values too deeply nested', cause });
  }
  if (result.success) return result.data;
  throw new QianmoError({ kind: 'data', what, where, found: z.prettifyError(result.error) });
}

const VersionedSchema = z.object({ formatVersion: z.int().positive() });
function refuseOtherVersion(value: unknown, where: string): void {
  const version = VersionedSchema.safeParse(value);
  if (!version.success || version.data.formatVersion === CHECKPOINT_FORMAT_VERSION) return;
  throw errorOf('environment', 'another version of qianmo wrote this checkpoint', {
    where,
    expected: `format ${CHECKPOINT_FORMAT_VERSION}`,
    found: `format ${version.data.formatVersion}`,
    cure: 'resume with the version that wrote it, or choose another output',
  });
}

/** The first of the lowest losses; null if there is none. */
export function bestOf(validated: readonly ValidatedStep[] = []): ValidatedStep | null {
  let best: ValidatedStep | null = null;
  for (const step of validated) if (best === null || step.loss < best.loss) best = step;
  return best;
}

/** How often so many scores in a row were not better than the best before them. */
export function plateausIn(validated: readonly ValidatedStep[] = [], patience: number): number {
  let [plateaus, best, worse] = [0, Infinity, 0];
  for (const { loss } of validated) {
    worse = loss < best ? 0 : worse + 1;
    best = Math.min(best, loss);
    if (worse < patience) continue;
    plateaus += 1;
    worse = 0;
  }
  return plateaus;
}

/** Null if there is no checkpoint, or if it is damaged, which its reader reports. */
export async function latestManifestOf(
  checkpoints: ObjectStore,
): Promise<CheckpointManifest | null> {
  const pointer = await checkpoints.get(LATEST_KEY);
  if (pointer === null) return null;
  const latest = orNullIfDamaged(() => parseLatest(pointer.bytes, LATEST_KEY));
  if (latest === null) return null;
  const object = await checkpoints.get(latest.manifest);
  return object === null
    ? null
    : orNullIfDamaged(() => parseManifest(object.bytes, latest.manifest));
}

function orNullIfDamaged<Value>(parse: () => Value): Value | null {
  try {
    return parse();
  } catch (cause) {
    if (cause instanceof QianmoError && cause.kind === 'data') return null;
    throw cause;
  }
}

/** SHA-256 over the dense variables' digest, then names, shapes and pieces of tables by name. */
export function piecesDigest(dense: NamedTensors, tables: readonly StoredTable[]): string {
  const hash = hashAfterDense(dense);
  const byName = [...tables].sort((first, second) => (first.name < second.name ? -1 : 1));
  for (const { name, rowCount, width, pieces } of byName) {
    hash.update(tableLine(name, rowCount, width));
    for (const { firstRow, blob } of pieces) hash.update(`${firstRow} ${blob.sha256}\n`);
  }
  return hash.digest('hex');
}

export interface OptimizerState {
  /** By `STAGE/VARIABLE`, for example `adam.firstMoment/layer0.weight`. */
  readonly dense: ReadonlyMap<string, DenseTensor>;
  /** By `STAGE/FEATURE`, with the row count of the feature's table. */
  readonly tables: ReadonlyMap<string, EmbeddingTable>;
  readonly scalars: Readonly<Record<string, number>>;
}

/** A training task that the run leaves out from this outer step on. */
export interface QuarantinedTask {
  readonly outerStep: number;
  readonly taskIndex: number;
  readonly key: string;
}

/** The kind of machine, by its fingerprint, that computed the outer steps after `outerStep`. */
interface ComputedOn {
  readonly outerStep: number;
  readonly fingerprint: string;
}

/** A store that was trained on up to an outer step, before logs were appended to it. */
interface EarlierStore {
  readonly outerStep: number;
  readonly storeDigest: string;
}

export interface TrainingState {
  /** Outer steps completed; the sampler needs nothing else. */
  readonly outerStep: number;
  readonly metaParameters: MetaParameters;
  readonly optimizer: OptimizerState;
  /** In order of outer steps; one entry unless the config has demanded another kind on a resume. */
  readonly computedOn: readonly ComputedOn[];
  /** In order of their finding; absent while there is none. */
  readonly quarantinedTasks?: readonly QuarantinedTask[];
  /** In order of outer steps; absent while the run has had one store. */
  readonly earlierStores?: readonly EarlierStore[];
  /** The number of outer steps that the run was extended to; absent while it is that of the config. */
  readonly extendedOuterSteps?: number;
  /** The scores on validation adgroups so far; absent where training does not stop early. */
  readonly validated?: readonly ValidatedStep[];
}

/** The number of outer steps of the run, complete or to come. */
export function outerStepsOf(
  { extendedOuterSteps }: { readonly extendedOuterSteps?: number | undefined },
  { outerSteps }: Pick<TrainingConfig, 'outerSteps'>,
): number {
  return extendedOuterSteps ?? outerSteps;
}

/** The record after an outer step on this kind of machine; null for a step without jobs. */
export function computedOnAfter(
  { outerStep, computedOn }: Pick<TrainingState, 'outerStep' | 'computedOn'>,
  fingerprint: string | null,
): readonly ComputedOn[] {
  const last = computedOn.at(-1)?.fingerprint ?? null;
  return fingerprint === null || fingerprint === last
    ? computedOn
    : [...computedOn, { outerStep, fingerprint }];
}
