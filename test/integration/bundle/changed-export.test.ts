/**
 * Exports of changed adgroups: they have the blocks that a full export of the same store writes, share the files
 * of the bundle before, and now and then write all blocks again.
 */

import { beforeAll, describe, expect, test } from 'vitest';
import {
  exportChanged,
  type ExportedChanges,
  type ExportSource,
} from '../../../coordinator/export/export-bundle.js';
import { blockBytes } from '../../../shared/bundle/block-codec.js';
import { adgroupCountOf, type BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { blockOfKey } from '../../../shared/bundle/key-index.js';
import { BLOCK_ENCODINGS, type BlockEncoding } from '../../../shared/bundle/ranking-model.js';
import { readPublishedBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { grownParameters } from '../../../coordinator/checkpoints/checkpoint-reader.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { TaskEntry, TaskStore } from '../../../shared/tasks/task-store.js';
import { ADDED, CHANGED, storeAt } from '../../fixtures/bundle/grown-stores.js';
import { exportableConfig, exportRoom, exportSource } from '../../fixtures/bundle/tiny-export.js';
import { openedOnce } from '../../fixtures/opened.js';
import { servedBundle } from '../../fixtures/serving/served-export.js';

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
    model: {
      ...{ kind: 'logistic', hiddenWidths: [], personal: ['bias'] },
      supportInputs: { targetEncodings: ['category1'] },
    },
    method: { kind: 'fomaml', innerSteps: 2, innerRate: 0.5 },
  });
  const source = exportSource(config, STORES[version], SERVING);
  const first = exportSource(config, STORES[0], SERVING);
  return {
    ...source,
    checkpoint: first.checkpoint,
    parameters: grownParameters(first.parameters, source.run.spec),
  };
}

const room = openedOnce(() => exportRoom(() => current));
let current: TaskStore;
let served: Exports;
beforeAll(async () => {
  served = await exportsOf('float32');
});

interface Exports {
  readonly objects: MemoryObjectStore;
  readonly full: string;
  readonly changes: readonly [ExportedChanges, ExportedChanges];
  readonly last: string;
}

async function changesOf(
  objects: MemoryObjectStore,
  digest: string,
  source: ExportSource,
  isChanged: (task: TaskEntry) => boolean,
): Promise<ExportedChanges | null> {
  current = source.store;
  const published = await readBundleManifest(objects, digest);
  const loaded = await readPublishedBundle(objects, digest);
  const { compute, caller } = room;
  const surroundings = { objects, compute, caller, dispatcher: room.dispatcher() };
  return exportChanged(source, { published, loaded }, isChanged, surroundings);
}

async function exportsOf(encoding: BlockEncoding): Promise<Exports> {
  const objects = new MemoryObjectStore();
  const changedAt = async (version: 1 | 2, digest: string): Promise<ExportedChanges> =>
    (await changesOf(objects, digest, sourceAt(version), (task) => task.changedIn === version))!;
  current = STORES[0];
  const full = (await room.exported(sourceAt(0), objects, { encoding })).digest;
  const first = await changedAt(1, full);
  const last = await changedAt(2, first.digest);
  return { objects, full, changes: [first, last], last: last.digest };
}

describe.each(BLOCK_ENCODINGS)('two exports of changes in %s', (encoding) => {
  // Seen to fail: self-check rows under blocks of the bundle before; offsets of values that begin at 0 again.
  test('pass the self-check of a server, and give every adgroup the block of a full export', async () => {
    const { objects, last } = await exportsOf(encoding);
    await servedBundle(objects, last);
    const changed = await readPublishedBundle(objects, last);
    current = STORES[2];
    const exported = await room.exported(sourceAt(2), objects, { encoding });
    const full = await readPublishedBundle(objects, exported.digest);
    for (const { key } of STORES[2].tasks) expect(ofKey(changed, key)).toEqual(ofKey(full, key));
    expect(blockOfKey(changed.index, 'nobody')).toBe(0);
    const row = { category0: 'later-4', category1: null, number0: 1 };
    expect(changed.encoder.encode(row)).toEqual(full.encoder.encode(row));
    expect(checkedRows(changed)).toEqual(checkedRows(full));
  });
});

/** The self-check rows, with the key of the adgroup of each. */
function checkedRows({ selfCheck, index }: LoadedBundle): unknown {
  const { keyBytes, keyOffsets } = index;
  const keys = Array.from(selfCheck.blocks, (block) =>
    Buffer.from(keyBytes.subarray(keyOffsets[block], keyOffsets[block + 1])).toString(),
  );
  return { keys, rows: selfCheck.rows, logits: selfCheck.logits };
}

/** All that a bundle has of an adgroup. */
function ofKey({ model, index, labels, offsets: ofBlocks }: LoadedBundle, key: string): unknown {
  const block = blockOfKey(index, key);
  const { evidence, isAlone } = model.blocks;
  const { offsets, ids, clicks, impressions } = evidence.byValue!;
  const [start, end] = [offsets[block]!, offsets[block + 1]!];
  return {
    isKnown: block > 0,
    bytes: Array.from(blockBytes(model.blocks, block)),
    label: labels[block],
    offset: ofBlocks[block],
    evidence: [
      evidence.supportRowCounts[block],
      evidence.clicks[block],
      evidence.impressions[block],
    ],
    isAlone: isAlone[block],
    byValue: [ids, clicks, impressions].map((each) => Array.from(each.slice(start, end))),
  };
}

const filesOf = ({ arrays }: BundleManifest, name: string): readonly unknown[] =>
  arrays.find((array) => array.name === name)!.files;

describe('an export of changes', () => {
  test('adds a file to arrays that grow, writes the index again, and has all other files of the bundle before', async () => {
    const { objects, full, changes } = served;
    const before = (await readBundleManifest(objects, full)).manifest;
    const [first, last] = changes;
    for (const [manifest, count] of [
      [first.manifest, 2],
      [last.manifest, 3],
    ] as const) {
      for (const name of ['blocks', 'blocks.clicks', 'sums.offsets', 'sums.ids', 'keys.bytes']) {
        expect(filesOf(manifest, name).length).toBe(count);
        expect(filesOf(manifest, name)[0]).toEqual(filesOf(before, name)[0]);
      }
      expect(filesOf(manifest, 'index.blocks').length).toBe(1);
      expect(filesOf(manifest, 'dense/bias')).toEqual(filesOf(before, 'dense/bias'));
      expect(filesOf(manifest, 'tables/category1')).toEqual(filesOf(before, 'tables/category1'));
    }
    expect(filesOf(first.manifest, 'tables/category0')).toEqual(
      filesOf(before, 'tables/category0'),
    );
    expect(filesOf(last.manifest, 'tables/category0').length).toBe(2);
  });

  test('says how many adgroups are changed and new, and which blocks are dead', () => {
    const [first, last] = served.changes;
    expect(first).toMatchObject({
      changedAdgroupCount: CHANGED.first.length,
      newAdgroupCount: ADDED.first.length,
      isRewritten: false,
      grownTables: [],
    });
    expect(last).toMatchObject({
      changedAdgroupCount: CHANGED.last.length,
      newAdgroupCount: ADDED.last.length,
      isRewritten: false,
      grownTables: ['category0'],
    });
    const deadCount = CHANGED.first.length + CHANGED.last.length;
    expect(last.manifest.blocks).toMatchObject({
      count: 1 + STORES[2].tasks.length + deadCount,
      deadCount,
    });
    expect(adgroupCountOf(last.manifest)).toBe(STORES[2].tasks.length);
  });

  test('of a bundle of the same store has nothing to do', async () => {
    expect(await changesOf(served.objects, served.last, sourceAt(2), () => false)).toBeNull();
  });

  test('of another trunk is refused', async () => {
    const source = sourceAt(1);
    const checkpoint = { ...source.checkpoint, digest: 'e'.repeat(64) };
    const exporting = changesOf(served.objects, served.full, { ...source, checkpoint }, () => true);
    await expect(exporting).rejects.toThrow(/the trunk has changed/);
  });
});

describe('all blocks are written again', () => {
  const isSame = async (objects: MemoryObjectStore, before: string, now: string): Promise<void> => {
    await servedBundle(objects, now);
    const [earlier, later] = [
      await readPublishedBundle(objects, before),
      await readPublishedBundle(objects, now),
    ];
    for (const { key } of STORES[2].tasks) expect(ofKey(later, key)).toEqual(ofKey(earlier, key));
    const { count } = later.manifest.blocks;
    expect(count).toBe(1 + STORES[2].tasks.length);
    expect(later.manifest.blocks.deadCount).toBeUndefined();
    for (const { files, name } of later.manifest.arrays)
      expect([name, files.length]).toEqual([name, Math.min(1, files.length)]);
  };

  test('when half of them are dead', async () => {
    const { objects, last } = served;
    const isEarly = ({ taskIndex }: TaskEntry): boolean => taskIndex < 110;
    const few = await changesOf(objects, last, sourceAt(2), isEarly);
    expect(few!.isRewritten).toBe(false);
    const all = await changesOf(objects, last, sourceAt(2), () => true);
    expect(all!.isRewritten).toBe(true);
    await isSame(objects, last, all!.digest);
  });

  // Seen to fail: sums by value that are not copied.
  test('after sixteen exports, those of unchanged adgroups as they are', async () => {
    const { objects, last } = served;
    let exported = served.changes[1];
    const isChanged = ({ taskIndex }: TaskEntry): boolean => taskIndex === 7;
    for (let count = 2; count < 16; count += 1) {
      exported = (await changesOf(objects, exported.digest, sourceAt(2), isChanged))!;
      expect(exported.isRewritten).toBe(false);
    }
    exported = (await changesOf(objects, exported.digest, sourceAt(2), isChanged))!;
    expect(exported.isRewritten).toBe(true);
    await isSame(objects, last, exported.digest);
  });
});
