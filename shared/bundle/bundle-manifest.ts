/**
 * The manifest of a bundle: what a ranking server must know beside the arrays, and the name, type,
 * shape and files of every array. Objects under the address of the bundles:
 *
 *   blobs/SHA256             a file of an array, named by its content
 *   manifests/SHA256.json    a manifest, named by its content and written last: the digest of the bundle
 *   labels/NAME.json         where a label points (`bundle-store.ts`)
 *   progress/...             what an export under way has; removed when the manifest is there
 *
 * Arrays, little-endian and row-major. A file holds whole rows of one array. B is the number of blocks,
 * of which block 0 is that of unknown adgroups; `ranking-model.ts` says what is in a block.
 *
 *   dense/NAME               F32  a variable; personal ones as all tasks start from them
 *   tables/FEATURE           F32  [rowCount, width]
 *   blocks                   U8   [B, strideByteCount]
 *   blocks.supportRowCounts  U32  [B], `blocks.clicks` and `blocks.impressions` F64: its evidence
 *   blocks.isOfValues        U8   [B], and `blocks.isAlone`
 *   blocks.labels            I32  [B]: the place of its label in `labels`
 *   blocks.offsets           F32  [B]: the offset of its calibrated outputs (`calibration.ts`)
 *   effects.offsets .ids     I32  effects by value of shifted features, `effects.effects` F32
 *   sums.offsets .ids        I32  sums by value of target encodings, `sums.clicks` `.impressions` F64
 *   index.hashes             U32  [slotCount, 2], `index.blocks` I32 [slotCount] (`key-index.ts`)
 *   keys.bytes               U8   UTF-8, `keys.offsets` U32 [B + 1]
 *   dictionaries/FEATURE.bytes U8 UTF-8 of the values of all ids, `.offsets` U32 [valueCount + 1], and
 *                            `.index` U32 [slotCount] (`packed-dictionary.ts`)
 *   encodings/NAME.ids0      I32  [valueCount], `.ids1` of pairs, `.rates` and `.counts` F32: what values say in
 *                            a target encoding (`target-encoding.ts`)
 *   selfCheck.blocks         I32  [n], `selfCheck.logits` and `.expected` F32 [n], and the encoded features
 *   selfCheck.categories     I32  [features, n], `selfCheck.bag.NAME` I32 [n, lengthMax],
 *   selfCheck.numbers        F32  [features, n]
 *
 * Files never change, and an array may have files of several exports. An export of changed adgroups writes
 * their blocks and what belongs to them as rows behind the others, and a new index: `index.hashes`, `index.blocks`.
 * The earlier blocks of changed adgroups stay where they are, and nothing leads there.
 */

import { z } from 'zod';
import { type QianmoError, errorOf } from '../base/errors.js';
import { FeatureSchema } from '../config/data-config.js';
import { FingerprintSchema } from '../events/device-report.js';
import { MethodConfigSchema } from '../methods/methods.js';
import { ModelConfigSchema } from '../models/model-config.js';
import { BlobRefSchema } from '../storage/blob-store.js';
import { ColumnTypesSchema, EncodedFeatureSchema } from '../tasks/store-manifest.js';
import { TaskLabelSchema } from '../tasks/task-label.js';
import { sha256Of } from '../tensors/sha256.js';
import { CalibrationSchema } from './calibration.js';
import { BLOCK_ENCODINGS } from './ranking-model.js';

/** Raised when a field or an array changes its meaning. */
export const BUNDLE_FORMAT_VERSION = 1;

/** A larger manifest is not read. */
export const MANIFEST_BYTE_COUNT_MAX = 64 * 1024 * 1024;
/** A file beyond it would not fit a buffer of every version of Node. */
const FILE_BYTE_COUNT_MAX = 2 ** 31 - 1;

const count = z.int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits');

/** The digest of a bundle: that of its manifest's bytes. */
export const BundleDigestSchema = sha256;

const ArraySchema = z.strictObject({
  name: z.string().min(1),
  type: z.enum(['F32', 'F64', 'I32', 'U32', 'U8']),
  shape: z.array(count),
  /** In order; none for an array without elements. */
  files: z.array(BlobRefSchema.extend({ byteCount: z.int().positive().max(FILE_BYTE_COUNT_MAX) })),
});
export type BundleArray = z.infer<typeof ArraySchema>;

const AdaptationSchema = z.strictObject({
  innerRate: z.number().positive(),
  innerSteps: count,
});

/** Adgroups by their support rows. */
const sizes = {
  supportRowCountMin: count,
  /** Null means no upper bound. */
  supportRowCountMax: count.nullable(),
};

/** The blocks that adgroups of one label are served. */
const ServingSchema = z.strictObject({
  /** How the adgroups that are served adapted blocks have adapted. */
  adaptation: AdaptationSchema,
  /** The choice of the evaluation on validation adgroups; one entry for all sizes where it did not. */
  served: z.array(z.strictObject({ ...sizes, blocks: z.enum(['adapted', 'unadapted']) })).min(1),
});

const BundleManifestSchema = z.strictObject({
  formatVersion: z.literal(BUNDLE_FORMAT_VERSION),
  provenance: z.strictObject({
    run: z.string(),
    seed: count,
    /** A hash of the part of the config that decides the parameters. */
    configHash: sha256,
    checkpoint: z.strictObject({
      outerStep: count,
      digest: sha256,
      /** The kinds of machines that trained it, in order of outer steps. */
      fingerprints: z.array(FingerprintSchema),
      /** The stores that it was trained on before logs were appended, each up to an outer step. */
      earlierStores: z.array(z.strictObject({ outerStep: count, storeDigest: sha256 })).optional(),
    }),
    storeDigest: sha256,
  }),
  model: ModelConfigSchema,
  method: MethodConfigSchema,
  trainable: z.array(z.string()).optional(),
  /** The features as the config and as the store has them, and the types of the logs' columns. */
  features: z.array(FeatureSchema),
  encodedFeatures: z.array(EncodedFeatureSchema),
  columns: ColumnTypesSchema,
  /** An adgroup's key is the values of these columns, joined with U+001F. */
  taskColumns: z.array(z.string()).min(1),
  /** The column whose value is an adgroup's segment; absent without segments. */
  segmentColumn: z.string().optional(),
  labels: z.array(TaskLabelSchema).min(1),
  /** By label. */
  serving: z.array(ServingSchema).min(1),
  /** By label. */
  calibrations: z.array(CalibrationSchema).min(1),
  blocks: z.strictObject({
    count: z.int().positive(),
    /** Blocks of adgroups that have changed since and have another one; absent without any. */
    deadCount: z.int().positive().optional(),
    encoding: z.enum(BLOCK_ENCODINGS),
    strideByteCount: z.int().positive(),
    /** A power of two. The last file of an export has fewer. */
    blocksPerFile: z.int().positive(),
    /** The rows that adgroups have adapted on. */
    rows: z.enum(['support', 'all']),
  }),
  /**
   * The block of an unknown adgroup: the initial blocks, or those that the method starts a task from
   * that has no support rows and unknown attributes.
   */
  unknown: z.strictObject({ block: z.enum(['initial', 'start-without-support']) }),
  /** Hashes of keys have had seeds. */
  index: z.strictObject({ seed: z.literal(0) }),
  arrays: z.array(ArraySchema),
});
export type BundleManifest = z.infer<typeof BundleManifestSchema>;
export type BundleServing = z.infer<typeof ServingSchema>;

/** Returns whether an entry is for adgroups with so many rows. */
export function isForSize(
  entry: Pick<BundleServing['served'][number], 'supportRowCountMin' | 'supportRowCountMax'>,
  rowCount: number,
): boolean {
  const { supportRowCountMin: least, supportRowCountMax: most } = entry;
  return rowCount >= least && (most === null || rowCount <= most);
}

/** The adgroups that have a block. */
export function adgroupCountOf({ blocks }: Pick<BundleManifest, 'blocks'>): number {
  return blocks.count - 1 - (blocks.deadCount ?? 0);
}

export const MANIFEST_KEY_PREFIX = 'manifests/';

export function manifestKeyOf(digest: string): string {
  return `${MANIFEST_KEY_PREFIX}${digest}.json`;
}

export function encodeBundleManifest(manifest: BundleManifest): {
  readonly digest: string;
  readonly bytes: Uint8Array;
} {
  const bytes = Buffer.from(`${JSON.stringify(BundleManifestSchema.parse(manifest), null, 2)}\n`);
  return { digest: sha256Of(bytes), bytes };
}

/**
 * @throws QianmoError `data` if the bytes are not those that the digest names or not a manifest,
 *   `environment` if another version of the program wrote them.
 */
export function parseBundleManifest(
  bytes: Uint8Array,
  digest: string,
  where: string,
): BundleManifest {
  const unreadable = (found: string, cause?: unknown): QianmoError =>
    errorOf('data', 'the manifest of a bundle cannot be read', {
      where,
      found,
      cure: 'name the plugin that it was made with, if any; restore the object from a copy, or export the run again',
      ...(cause === undefined ? {} : { cause }),
    });
  const foundDigest = sha256Of(bytes);
  if (foundDigest !== digest)
    throw unreadable(`${bytes.byteLength} bytes with sha256 ${foundDigest}: truncated or changed`);
  let content: unknown;
  try {
    content = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw unreadable('text that is not JSON', cause);
  }
  refuseOtherVersion(content, where);
  const parsed = BundleManifestSchema.safeParse(content);
  if (!parsed.success) throw unreadable(`\n${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

function refuseOtherVersion(content: unknown, where: string): void {
  const version = z.object({ formatVersion: z.int().positive() }).safeParse(content);
  if (!version.success || version.data.formatVersion === BUNDLE_FORMAT_VERSION) return;
  throw errorOf('environment', 'another version of qianmo wrote this bundle', {
    where,
    expected: `format ${BUNDLE_FORMAT_VERSION}`,
    found: `format ${version.data.formatVersion}`,
    cure: 'read it with the version that wrote it, or export the run again',
  });
}
