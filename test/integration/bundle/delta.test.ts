/**
 * Deltas over a bundle: read as the bundle that a full export of the same store is, and compacted into it,
 * digest for digest; refused where they do not fit.
 */

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exportDelta, type ExportedDelta } from '../../../coordinator/export/export-delta.js';
import type { ExportSource } from '../../../coordinator/export/export-bundle.js';
import { compactBundle } from '../../../coordinator/export/upkeep/compact-bundle.js';
import { BundleArrays, filesOf } from '../../../shared/bundle/array-files.js';
import { blockBytes } from '../../../shared/bundle/block-codec.js';
import { moveLabel } from '../../../shared/bundle/bundle-labels.js';
import {
  DELTA_DEPTH_MAX,
  encodeBundleManifest,
  manifestKeyOf,
  type BundleManifest,
  type DeltaManifest,
} from '../../../shared/bundle/bundle-manifest.js';
import { publishBundle, readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { readBundleChain } from '../../../shared/bundle/delta/bundle-chain.js';
import { readAnyBundle, readMergedParts } from '../../../shared/bundle/delta/read-any-bundle.js';
import { blockOfKey } from '../../../shared/bundle/key-index.js';
import { newArray, type MakeArray } from '../../../shared/bundle/made-arrays.js';
import { BLOCK_ENCODINGS, type BlockEncoding } from '../../../shared/bundle/ranking-model.js';
import { selfCheckOf, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { grownParameters } from '../../../coordinator/checkpoints/grown-parameters.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { ADDED, CHANGED, storeAt } from '../../fixtures/bundle/grown-stores.js';
import {
  exportableConfig,
  exportRoom,
  exportSource,
  type ExportRoom,
} from '../../fixtures/bundle/tiny-export.js';
import { plainScorer } from '../../fixtures/serving/served-export.js';
import { writeInputGuide } from '../../../worker/serving/interchange/input-guide.js';
import { ServedBundle } from '../../../worker/serving/server/served-bundle.js';

const STORES = [storeAt(0), storeAt(1), storeAt(2)] as const;
const SERVING = [
  {
    adaptation: { innerRate: 0.5, innerSteps: 2 },
    served: [
      { supportRowCountMin: 0, supportRowCountMax: 4, blocks: 'unadapted' as const },
      { supportRowCountMin: 5, supportRowCountMax: null, blocks: 'adapted' as const },
    ],
  },
];

/** With single-task jobs, a block has the same bits whatever is adapted beside it. */
function sourceAt(version: 0 | 1 | 2): ExportSource {
  const config = exportableConfig(STORES[version], {
    model: { kind: 'logistic', hiddenWidths: [], personal: ['bias'] },
    method: {
      ...{ kind: 'fomaml', innerSteps: 2, innerRate: 0.5 },
      levelShift: { features: ['category1'] },
    },
  });
  const source = exportSource(config, STORES[version], SERVING);
  const first = exportSource(config, STORES[0], SERVING);
  return {
    ...source,
    checkpoint: first.checkpoint,
    parameters: grownParameters(first.parameters, source.run.spec, undefined),
  };
}

let room: ExportRoom;
let current: TaskStore;
let served: Chain;
beforeAll(async () => {
  room = await exportRoom(() => current);
  served = await chainOf('float32');
});
afterAll(() => room.close());

interface Chain {
  readonly objects: MemoryObjectStore;
  readonly full: string;
  readonly deltas: readonly ExportedDelta[];
  readonly last: string;
}

async function delta(
  objects: MemoryObjectStore,
  version: 0 | 1 | 2,
  digest: string,
): Promise<ExportedDelta | null> {
  current = STORES[version];
  const published = await readBundleManifest(objects, digest);
  const loaded = await readAnyBundle(objects, digest);
  const { compute, caller } = room;
  const surroundings = { objects, compute, caller, dispatcher: room.dispatcher() };
  const isChanged = ({ changedIn }: { readonly changedIn?: number }) => changedIn === version;
  return exportDelta(sourceAt(version), { published, loaded }, isChanged, surroundings);
}

async function chainOf(encoding: BlockEncoding): Promise<Chain> {
  const objects = new MemoryObjectStore();
  current = STORES[0];
  const full = (await room.exported(sourceAt(0), objects, { encoding })).digest;
  const first = await delta(objects, 1, full);
  const last = await delta(objects, 2, first!.digest);
  return { objects, full, deltas: [first!, last!], last: last!.digest };
}

// Seen to fail: an index of its own arrays, and the order of the lower delta among those that were asked for.
test('what grows with the bundle is made where the reader of two deltas wants it, and nothing else', async () => {
  const { objects, last } = served;
  const made = new Set<unknown>();
  const make: MakeArray = (Type, length) => {
    const values = newArray(Type, length);
    made.add(values);
    return values;
  };
  const chain = await readBundleChain(objects, last);
  const { parts } = await readMergedParts(chain, filesOf(objects), last, make);
  const { selfCheck, ...growing } = parts!;
  const found = arraysIn(growing);
  expect(found.filter((values) => !made.has(values))).toEqual([]);
  expect(made.size).toBe(found.length);
  expect(arraysIn(selfCheck).some((values) => made.has(values))).toBe(false);
});

function arraysIn(parts: unknown): unknown[] {
  if (ArrayBuffer.isView(parts)) return [parts];
  if (typeof parts !== 'object' || parts === null) return [];
  return Object.values(parts).flatMap(arraysIn);
}

describe.each(BLOCK_ENCODINGS)('two deltas over a bundle of %s', (encoding) => {
  // Seen to fail: blocks that keep the order of the chain, and self-check rows that are not moved.
  test('are compacted into the bundle that a full export writes', async () => {
    const { objects, last } = await chainOf(encoding);
    const compacted = await compactBundle(objects, last);
    current = STORES[2];
    const expected = await room.exported(sourceAt(2), new MemoryObjectStore(), { encoding });
    expect(compacted.deltaCount).toBe(2);
    const namesOf = ({ arrays }: BundleManifest): unknown[] =>
      arrays.map(({ name, files }) => [name, files]);
    expect(namesOf(compacted.manifest)).toEqual(namesOf(expected.manifest));
    expect(compacted.digest).toBe(expected.digest);
    expect((await compactBundle(objects, compacted.digest)).deltaCount).toBe(0);
  });

  test('pass the self-check of a server, and give every adgroup the block of a full export', async () => {
    const { objects, last } = await chainOf(encoding);
    await ServedBundle.read(objects, last, plainScorer);
    const merged = await readAnyBundle(objects, last);
    current = STORES[2];
    const exported = await room.exported(sourceAt(2), objects, { encoding });
    const full = await readAnyBundle(objects, exported.digest);
    for (const { key } of STORES[2].tasks) expect(ofKey(merged, key)).toEqual(ofKey(full, key));
    expect(blockOfKey(merged.index, 'nobody')).toBe(0);
    expect(merged.encoder.encode({ category0: 'later-4', category1: null, number0: 1 })).toEqual(
      full.encoder.encode({ category0: 'later-4', category1: null, number0: 1 }),
    );
  });
});

test('a converted model lists each adgroup once, where its newest block is', async () => {
  const { objects, last } = served;
  const { manifest, index } = await readAnyBundle(objects, last);
  const folder = await mkdtemp(join(tmpdir(), 'qianmo-guide-'));
  try {
    const none = { dictionaries: new Map(), targetEncodings: new Map() };
    await writeInputGuide(folder, { ...{ digest: last, manifest, index }, ...none });
    const lines = (await readFile(join(folder, 'vocabulary/adgroups.jsonl'), 'utf8')).split('\n');
    const listed = lines.flatMap((line, block) => {
      const key = line === '' ? null : (JSON.parse(line) as string | null);
      return key === null ? [] : [[key, block] as const];
    });
    const expected = STORES[2].tasks.map(({ key }) => [key, blockOfKey(index, key)] as const);
    expect(new Map(listed)).toEqual(new Map(expected));
    expect(listed.length).toBe(expected.length);
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** All that a bundle has of an adgroup. */
function ofKey({ model, index, labels, calibrations }: LoadedBundle, key: string): unknown {
  const block = blockOfKey(index, key);
  const { evidence, effects, isAlone } = model.blocks;
  const [start, end] = [effects!.offsets[block]!, effects!.offsets[block + 1]!];
  return {
    isKnown: block > 0,
    bytes: Array.from(blockBytes(model.blocks, block)),
    label: labels[block],
    calibration: calibrations[block],
    evidence: [
      evidence.supportRowCounts[block],
      evidence.clicks[block],
      evidence.impressions[block],
    ],
    isAlone: isAlone[block],
    ids: Array.from(effects!.ids.slice(start, end)),
    effects: Array.from(effects!.effects.slice(start, end)),
  };
}

describe('a delta', () => {
  test('holds the changed and new adgroups, and new rows of tables, and says so', async () => {
    const [first, last] = served.deltas;
    expect(first).toMatchObject({
      changedAdgroupCount: CHANGED.first.length,
      newAdgroupCount: ADDED.first.length,
    });
    expect(last).toMatchObject({
      changedAdgroupCount: CHANGED.last.length,
      newAdgroupCount: ADDED.last.length,
    });
    const { objects, full } = served;
    const below = (await readBundleManifest(objects, full)).manifest;
    const table = (manifest: BundleManifest) =>
      manifest.arrays.find(({ name }) => name === 'tables/category0')!;
    expect(table(first!.manifest)).toEqual(table(below));
    expect(table(last!.manifest).files[0]).toEqual(table(below).files[0]);
    expect(table(last!.manifest).files.length).toBe(2);
  });

  // Seen to fail: a delta that keeps no row of the bundle below.
  test('has self-check rows of its own only for adgroups that it holds', async () => {
    const { objects, deltas } = served;
    for (const { manifest, selfCheckRowCount } of deltas) {
      const source = { manifest, arrays: new BundleArrays(manifest.arrays, filesOf(objects), '') };
      const { blocks } = await selfCheckOf(source);
      const places = await source.arrays.uint32(
        'blocks.places',
        manifest.arrays.find(({ name }) => name === 'blocks.places')!.shape,
      );
      expect(blocks.length).toBeLessThan(selfCheckRowCount);
      expect(blocks.every((block) => block === 0 || places.includes(block))).toBe(true);
    }
  });

  test('of a bundle of the same store has nothing to do', async () => {
    current = STORES[2];
    const published = await readBundleManifest(served.objects, served.last);
    const loaded = await readAnyBundle(served.objects, served.last);
    const surroundings = {
      ...{ objects: served.objects, compute: room.compute, caller: room.caller },
      dispatcher: room.dispatcher(),
    };
    const found = await exportDelta(sourceAt(2), { published, loaded }, () => false, surroundings);
    expect(found).toBeNull();
  });

  test('of another trunk is refused', async () => {
    const published = await readBundleManifest(served.objects, served.full);
    const loaded = await readAnyBundle(served.objects, served.full);
    const source = sourceAt(1);
    const checkpoint = { ...source.checkpoint, digest: 'e'.repeat(64) };
    const surroundings = {
      ...{ objects: served.objects, compute: room.compute, caller: room.caller },
      dispatcher: room.dispatcher(),
    };
    const exporting = exportDelta(
      { ...source, checkpoint },
      { published, loaded },
      () => true,
      surroundings,
    );
    await expect(exporting).rejects.toThrow(/the trunk has changed/);
  });
});

describe('a chain is refused', () => {
  const changed = (change: (manifest: DeltaManifest) => BundleManifest): Promise<string> =>
    publishBundle(served.objects, change(served.deltas[1]!.manifest as DeltaManifest)).then(
      ({ digest }) => digest,
    );

  test('whose full bundle is missing or damaged', async () => {
    const key = manifestKeyOf(served.full);
    const { bytes } = (await served.objects.get(key))!;
    await served.objects.delete(key);
    await expect(readAnyBundle(served.objects, served.last)).rejects.toThrow(
      /the bundle that a delta changes is not there/,
    );
    await served.objects.put(key, bytes.slice(0, -1), { kind: 'always' });
    await expect(readAnyBundle(served.objects, served.last)).rejects.toThrow(/cannot be read/);
    await served.objects.put(key, bytes, { kind: 'always' });
    await readAnyBundle(served.objects, served.last);
  });

  test.each<[string, (manifest: DeltaManifest) => BundleManifest]>([
    ['trunk', (of) => ({ ...of, arrays: of.arrays.filter(({ name }) => name !== 'dense/bias') })],
    ['labels', (of) => ({ ...of, calibrations: of.calibrations.slice(1) })],
    ['depth', (of) => ({ ...of, delta: { ...of.delta, depth: 5 } })],
  ])('whose delta has another %s', async (_, change) => {
    await expect(readAnyBundle(served.objects, await changed(change))).rejects.toThrow(
      /a delta does not fit the bundle that it changes/,
    );
  });

  test('whose delta has a place twice', async () => {
    const { arrays } = served.deltas[1]!.manifest;
    const places = arrays.find(({ name }) => name === 'blocks.places')!;
    const first = served.deltas[0]!.manifest.arrays.find(({ name }) => name === 'blocks.isAlone')!;
    expect(first.files.length).toBe(1);
    const twice = new Uint8Array(new Uint32Array(places.shape[0]!).fill(3).buffer);
    const { blobRefOf } = await import('../../../shared/storage/blob-store.js');
    const file = blobRefOf(twice);
    await served.objects.put(`blobs/${file.sha256}`, twice, { kind: 'always' });
    const digest = await changed((of) => ({
      ...of,
      arrays: of.arrays.map((each) =>
        each === places || each.name === places.name ? { ...each, files: [file] } : each,
      ),
    }));
    await expect(readAnyBundle(served.objects, digest)).rejects.toThrow(/contradicts/);
  });

  test('that is too long', async () => {
    const manifest = served.deltas[1]!.manifest as DeltaManifest;
    const tooDeep = { ...manifest, delta: { ...manifest.delta, depth: DELTA_DEPTH_MAX + 1 } };
    expect(() => encodeBundleManifest(tooDeep)).toThrow();
    const deep = { ...manifest, delta: { ...manifest.delta, depth: DELTA_DEPTH_MAX } };
    const loaded = await readAnyBundle(served.objects, served.last);
    const exporting = exportDelta(
      sourceAt(2),
      { published: { digest: served.last, manifest: deep }, loaded },
      () => true,
      {
        ...{ objects: served.objects, compute: room.compute, caller: room.caller },
        dispatcher: room.dispatcher(),
      },
    );
    await expect(exporting).rejects.toThrow(/too many deltas/);
    await moveLabel(served.objects, 'latest', served.last);
  });
});
