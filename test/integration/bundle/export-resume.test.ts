/**
 * An export that is killed goes on where it ended and gives the same bundle; a damaged bundle is refused;
 * an adgroup that is served unadapted blocks has them; the self-check holds in every encoding.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import { adaptedTaskOf } from '../../../shared/bundle/block-codec.js';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { manifestKeyOf } from '../../../shared/bundle/bundle-manifest.js';
import { bundleDigestOf, readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { blockOfKey } from '../../../shared/bundle/key-index.js';
import { BLOCK_ENCODINGS } from '../../../shared/bundle/ranking-model.js';
import { readBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { S3ObjectStore } from '../../../shared/storage/s3-object-store.js';
import { RowScorer } from '../../../worker/compute/scoring/row-scorer.js';
import {
  exportableConfig,
  exportableStore,
  exportRoom,
  exportSource,
  type ExportRoom,
} from '../../fixtures/bundle/tiny-export.js';
import { canStartS3, S3_SUITE_SUFFIX, startS3Buckets } from '../../fixtures/stores/s3-buckets.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

/** Three waves of single-task jobs. */
const store = exportableStore({ taskCount: 150, supportRowCountMax: 8, queryRowCountMax: 4 });
const config = exportableConfig(store, {
  model: { kind: 'logistic', hiddenWidths: [], personal: ['bias'] },
  method: {
    kind: 'fomaml',
    innerSteps: 2,
    innerRate: 0.5,
    levelShift: { features: ['category1'] },
  },
});
const ADAPTATION = { innerRate: 0.5, innerSteps: 2 };
/** Adgroups of up to 4 support rows are served unadapted blocks. */
const source = exportSource(config, store, [
  {
    adaptation: ADAPTATION,
    served: [
      { supportRowCountMin: 0, supportRowCountMax: 4, blocks: 'unadapted' },
      { supportRowCountMin: 5, supportRowCountMax: null, blocks: 'adapted' },
    ],
  },
]);

let room: ExportRoom;
let folder: TemporaryFolder;
beforeAll(async () => {
  room = await exportRoom(() => store);
  folder = await temporaryFolder();
});
afterAll(async () => {
  await room.close();
  await folder.remove();
});

/** Counts its calls, and fails at one of them. */
function failingAt(call: number): Dispatcher & { readonly calls: () => number } {
  const inner = room.dispatcher();
  let callCount = 0;
  return {
    ...inner,
    calls: () => callCount,
    run: (orders, read, signal) => {
      callCount += 1;
      if (callCount === call) throw new Error('killed');
      return inner.run(orders, read, signal);
    },
  };
}

describe('an export that is killed', () => {
  // Seen to fail: shards of an earlier export that are not kept.
  test('goes on where it ended, and gives the same bundle', async () => {
    const whole = new MemoryObjectStore();
    const counting = failingAt(Infinity);
    const expected = await room.exported(source, whole, {}, counting);
    expect(expected.keptAdgroupCount).toBe(0);
    const seen = new Set<number>();
    for (let call = 1; call <= counting.calls(); call += 1) {
      const objects = new MemoryObjectStore();
      await expect(room.exported(source, objects, {}, failingAt(call))).rejects.toThrow('killed');
      expect((await objects.list('manifests/')).length).toBe(0);
      const found = await room.exported(source, objects);
      expect(found.digest).toBe(expected.digest);
      seen.add(found.keptAdgroupCount);
      expect(await objects.list('progress/')).toEqual([]);
    }
    expect(Math.max(...seen)).toBe(150);
    expect(seen.size).toBeGreaterThan(3);
  });

  test('adapts again what was damaged meanwhile', async () => {
    const objects = new MemoryObjectStore();
    const last = failingAt(Infinity);
    const expected = await room.exported(source, new MemoryObjectStore(), {}, last);
    await room.exported(source, objects, {}, failingAt(last.calls())).catch(() => undefined);
    const [first = ''] = await objects.list('progress/');
    await objects.put(first, Buffer.from('damaged, but long enough for a digest'), {
      kind: 'always',
    });
    const found = await room.exported(source, objects);
    expect(found.digest).toBe(expected.digest);
    expect(found.keptAdgroupCount).toBeLessThan(150);
  });
});

async function loaded(objects: MemoryObjectStore, digest: string): Promise<LoadedBundle> {
  const { manifest } = await readBundleManifest(objects, digest);
  return readBundle(manifest, filesOf(objects), digest);
}

describe('a bundle', () => {
  test.each(BLOCK_ENCODINGS)('of %s gives the outputs of its self-check', async (encoding) => {
    const objects = new MemoryObjectStore();
    const { digest, selfCheckRowCount } = await room.exported(source, objects, { encoding });
    const { model, selfCheck } = await loaded(objects, digest);
    expect(selfCheck.blocks.length).toBe(selfCheckRowCount);
    expect(selfCheck.blocks.includes(0)).toBe(true);
    const scorer = new RowScorer(room.executor.engine, model);
    const found = [...selfCheck.blocks.keys()].map((row) => {
      const { rows } = selfCheck;
      const [values] = scorer.score([
        {
          adapted: adaptedTaskOf(model, selfCheck.blocks[row]!),
          rows: {
            rowCount: 1,
            categoryIds: rows.categoryIds.map((ids) => ids.slice(row, row + 1)),
            bagIds: [],
            numbers: rows.numbers.map((each) => each.slice(row, row + 1)),
          },
        },
      ]);
      return values![0]!;
    });
    const differences = found.map((value, row) => Math.abs(value - selfCheck.logits[row]!));
    expect(Math.max(...differences)).toBeLessThan(1e-5);
  });

  test('serves unadapted blocks where evaluation chose them, and calibrates by size', async () => {
    const objects = new MemoryObjectStore();
    const { digest } = await room.exported(source, objects);
    const { model, index, calibrations, manifest } = await loaded(objects, digest);
    const initial = source.parameters.dense.get('bias')!.values;
    for (const { key, supportRowCount } of store.tasks) {
      const block = blockOfKey(index, key);
      const { blocks, shift } = adaptedTaskOf(model, block);
      const isInitial = blocks.get('bias')!.values[0] === initial[0] && shift!.level === 0;
      expect(isInitial).toBe(supportRowCount <= 4);
      expect(model.blocks.evidence.supportRowCounts[block]).toBe(
        supportRowCount <= 4 ? 0 : supportRowCount,
      );
      const calibration = manifest.calibrations[calibrations[block]!]!;
      expect(calibration.of).toBe('known');
      expect(calibration.supportRowCountMin <= supportRowCount).toBe(true);
      expect(supportRowCount <= (calibration.supportRowCountMax ?? Infinity)).toBe(true);
    }
    expect(blockOfKey(index, 'nobody')).toBe(0);
    expect(manifest.unknown).toEqual({ block: 'initial', attributes: [] });
  });

  test('adapts on all rows if asked to', async () => {
    const objects = new MemoryObjectStore();
    const { digest, evaluatedDifferenceMax } = await room.exported(source, objects, {
      rows: 'all',
    });
    const { model, index } = await loaded(objects, digest);
    const { key, supportRowCount, queryRowCount } = store.tasks[0]!;
    expect(model.blocks.evidence.supportRowCounts[blockOfKey(index, key)]).toBe(
      supportRowCount + queryRowCount,
    );
    expect(evaluatedDifferenceMax).toBeNull();
  });

  test('encodes rows by the dictionaries of its store', async () => {
    const objects = new MemoryObjectStore();
    const { digest } = await room.exported(source, objects);
    const { encoder } = await loaded(objects, digest);
    const row = { category0: 'category0-3', category1: 'new', number0: 0.5 };
    const { categoryIds, numbers } = encoder.encode(row);
    expect(categoryIds.map((ids) => ids[0])).toEqual([3, 0]);
    expect(numbers[0]![0]).toBe(0.5);
  });
});

describe.skipIf(!canStartS3)(`on S3${S3_SUITE_SUFFIX}`, () => {
  test('a bundle has the digest that it has elsewhere, and a killed export goes on', async () => {
    const s3 = await startS3Buckets();
    try {
      await s3.makeBucket('bundles');
      const place = { bucket: 'bundles', prefix: 'shop' };
      const objects = new S3ObjectStore({ ...s3.options, ...place });
      await expect(room.exported(source, objects, {}, failingAt(4))).rejects.toThrow('killed');
      const found = await room.exported(source, objects);
      expect(found.keptAdgroupCount).toBeGreaterThan(0);
      const { digest } = await room.exported(source, new MemoryObjectStore());
      expect(found.digest).toBe(digest);
      const { manifest } = await readBundleManifest(objects, digest);
      const { index } = await readBundle(manifest, filesOf(objects), digest);
      expect(blockOfKey(index, store.tasks[7]!.key)).toBeGreaterThan(0);
    } finally {
      await s3.stop();
    }
  });
});

describe('a damaged bundle is refused, whichever file is damaged', () => {
  test('in a folder', async () => {
    const objects = new FileObjectStore({ folder: folder.path });
    const { digest, manifest } = await room.exported(source, objects);
    expect(await bundleDigestOf(objects, digest.slice(0, 8))).toBe(digest);
    const keys = [...(await objects.list('blobs/')), manifestKeyOf(digest)];
    expect(keys.length).toBeGreaterThan(10);
    const read = async (): Promise<unknown> => {
      const published = await readBundleManifest(objects, digest);
      return readBundle(published.manifest, filesOf(objects), digest);
    };
    for (const key of keys) {
      const { bytes } = (await objects.get(key))!;
      const changed = Uint8Array.from(bytes);
      changed[bytes.length >> 1]! ^= 1;
      for (const damaged of [bytes.slice(0, -1), changed]) {
        await objects.put(key, damaged, { kind: 'always' });
        await expect(read()).rejects.toMatchObject({ kind: 'data' });
      }
      await objects.delete(key);
      await expect(read()).rejects.toThrow(/no such bundle|missing, truncated or changed/);
      await objects.put(key, bytes, { kind: 'always' });
    }
    expect(await read()).toMatchObject({ manifest });
    // An export over a damaged file restores it.
    await objects.put(keys[0]!, Buffer.from('damaged'), { kind: 'always' });
    expect((await room.exported(source, objects)).digest).toBe(digest);
    expect(await read()).toMatchObject({ manifest });
  });
});
