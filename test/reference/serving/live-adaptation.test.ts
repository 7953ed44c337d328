/**
 * Jobs of a server against those of an export: every method adapts an adgroup from rows of a client to the block that the
 * export made of the same rows in its store, of clicks and of values, with no row, one and many;
 * and so does one that adapts while serving, from a model with support inputs.
 */

import { beforeAll, describe, expect, test } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import type { AdaptedTask } from '../../../shared/bundle/adapted-tasks.js';
import { blockBytes, readBlock } from '../../../shared/bundle/block-codec.js';
import type { BundleServing } from '../../../shared/bundle/bundle-manifest.js';
import { blockOfKey, keyHashOf } from '../../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { labelsOf } from '../../../shared/tasks/task-label.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { KernelScorer } from '../../../worker/serving/kernel-scorer.js';
import { requestOfRows } from '../../../worker/serving/ranking-request.js';
import { AdaptJobs } from '../../../worker/serving/server/live-adapter.js';
import { LiveBlocks } from '../../../worker/serving/server/live-blocks.js';
import {
  exportableConfig,
  exportableStore,
  exportRoom,
  exportSource,
  loadedBundle,
} from '../../fixtures/bundle/tiny-export.js';
import { openedOnce } from '../../fixtures/opened.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';
import { supportRowsOf } from '../../fixtures/serving/support-rows-of.js';

const INPUT_STORE = exportableStore({
  ...{ taskCount: 6, categoryRowCounts: [9, 5], bags: [{ rowCount: 6, lengthMax: 3 }] },
  ...{ numberCount: 1, losses: ['binary', 'squared'] },
});
const SECTIONS = {
  model: {
    ...{ kind: 'deepfm', embeddingWidth: 3, hiddenWidths: [5], adgroupEmbedding: true },
    personal: ['bias', 'adgroupEmbedding', 'output'],
    supportInputs: { clickRate: true, count: true, targetEncodings: ['category1', 'category0'] },
  },
  method: { kind: 'fomaml', innerSteps: 2, innerRate: 0.2 },
};
/** More live blocks than one shard has. */
const OTHER_COUNT = 1_100;

const addon = await compiledAddon();
const inputRoom = openedOnce(() => exportRoom(() => INPUT_STORE));
let bundle: LoadedBundle;
beforeAll(async () => {
  const objects = new MemoryObjectStore();
  const source = exportSource(exportableConfig(INPUT_STORE, SECTIONS), INPUT_STORE);
  const { digest } = await inputRoom.exported(source, objects);
  bundle = await loadedBundle(objects, digest);
});

type Hash = readonly [number, number];
const hashOf = (key: string): Hash => {
  const { low, high } = keyHashOf(Buffer.from(key));
  return [low, high];
};
const keyOf = (task: TaskRows): string => at(INPUT_STORE.tasks, task.taskIndex).key;
const readTasks = () => INPUT_STORE.readTasks(INPUT_STORE.tasks.map((_task, place) => place));

async function adaptedOf(task: TaskRows): Promise<AdaptedTask> {
  const { adaptation } = at(bundle.manifest.serving, 0);
  const jobs = new AdaptJobs('a'.repeat(64), bundle);
  const { output } = await inputRoom.executor.execute(
    jobs.inputOf([supportRowsOf(task)], adaptation),
  );
  return at(jobs.tasksIn(output, 1), 0);
}

function putIn(live: LiveBlocks, { blocks, loss, support }: AdaptedTask, hash: Hash): void {
  const values = { variables: blocks, loss, support };
  const notes = { label: 0, offset: 0, supportRows: 1, clicks: 0, impressions: 0 };
  live.put(hash, values, notes);
}

/** The request for all rows of the task, and their scores by its exported block. */
function exportedScores(task: TaskRows) {
  const { model, index } = bundle;
  const blocks = new Int32Array(task.rowCount).fill(blockOfKey(index, keyOf(task)));
  const request = requestOfRows(model.spec, task, blocks);
  const exported = new Float32Array(task.rowCount);
  new KernelScorer(addon, model, []).score(request, exported);
  return { exported, request };
}

test('scores every row as the exported block does, also when more blocks than a shard live', async () => {
  const live = new LiveBlocks(
    bundle.model,
    (model, names) => new KernelScorer(addon, model, names),
  );
  const tasks = await readTasks();
  const adapted = await Promise.all(tasks.map(adaptedOf));
  for (const [place, task] of tasks.entries()) putIn(live, at(adapted, place), hashOf(keyOf(task)));
  for (let other = 0; other < OTHER_COUNT; other += 1)
    putIn(live, at(adapted, other % 2), hashOf(`other ${other}`));
  for (const task of tasks) {
    const { exported, request } = exportedScores(task);
    const [low, high] = hashOf(keyOf(task));
    const hashes = Uint32Array.from({ length: 2 * task.rowCount }, (_, place) =>
      place % 2 === 0 ? low : high,
    );
    const scores = new Float32Array(task.rowCount);
    const variances = new Float32Array(task.rowCount);
    expect(live.score(request, [], { hashes, scores, variances })?.size).toBe(task.rowCount);
    for (const [row, score] of scores.entries())
      expect(Math.abs(score - at(exported, row)), `${task.taskIndex} ${row}`).toBeLessThan(1e-5);
  }
});

test('keeps scorers of a few kinds of requests, and releases the others', async () => {
  // Seen to fail: without a bound.
  let openCount = 0;
  const live = new LiveBlocks(bundle.model, () => {
    openCount += 1;
    return { score: () => undefined, release: () => (openCount -= 1) };
  });
  const task = at(await readTasks(), 0);
  putIn(live, await adaptedOf(task), hashOf('adgroup'));
  const request = { ...exportedScores(task).request, candidateCount: 1 };
  const asked = {
    hashes: Uint32Array.from(hashOf('adgroup')),
    scores: new Float32Array(1),
    variances: new Float32Array(1),
  };
  for (let kind = 0; kind < 50; kind += 1) live.score(request, [`feature ${kind}`], asked);
  expect(openCount).toBe(8);
  live.release();
  expect(openCount).toBe(0);
});

/** A third of the adgroups has no support rows, the others have up to 16. */
const STORE = exportableStore({
  ...{ seed: 34, taskCount: 18, categoryRowCounts: [9, 5], bags: [{ rowCount: 6, lengthMax: 3 }] },
  ...{ numberCount: 2, losses: ['binary', 'squared'], counts: true, hasEmptySets: true },
});
const FEW_ROWS = 4;
const tower = { embeddingWidth: 3, hiddenWidths: [5, 4], adgroupEmbedding: true };
const head = ['bias', 'adgroupEmbedding', 'output'];
const deepfm = { kind: 'deepfm', ...tower, personal: head };
const steps = { innerSteps: 3, innerRate: 0.1 };

interface Sections {
  readonly model: object;
  readonly method: object;
}

const CASES: Readonly<Record<string, Sections>> = {
  'fomaml, dcn-v2': {
    model: { kind: 'dcn-v2', ...tower, crossLayers: 2, personal: ['adgroupEmbedding'] },
    method: { kind: 'fomaml', ...steps },
  },
  'paml-gate, trained padding and generated embedding': {
    model: { ...deepfm, padding: 'trained', generated: 'category0' },
    method: { kind: 'paml-gate', ...steps },
  },
  'fomaml, support inputs': {
    model: {
      ...deepfm,
      supportInputs: { clickRate: true, count: true, targetEncodings: ['category1', 'category0'] },
    },
    method: { kind: 'fomaml', ...steps },
  },
  'fomaml, no tables': {
    model: { kind: 'logistic', hiddenWidths: [], personal: ['bias'] },
    method: { kind: 'fomaml', ...steps },
  },
  global: { model: deepfm, method: { kind: 'global' } },
  'posterior, a level alone': {
    model: { kind: 'deepfm', ...tower, adgroupEmbedding: false, personal: ['bias'] },
    method: { kind: 'posterior', innerRate: 0.7 },
  },
  'meta-embedding': {
    model: { ...deepfm, adgroupEmbedding: false, generated: 'category0', personal: [] },
    method: { kind: 'meta-embedding', attributes: ['category1', 'number0'] },
  },
  'posterior, dcn-v2': {
    model: {
      ...{ kind: 'dcn-v2', ...tower, crossLayers: 2, adgroupEmbedding: false },
      personal: ['bias', 'output'],
    },
    method: { kind: 'posterior' },
  },
  'paml-gate': {
    model: deepfm,
    method: { kind: 'paml-gate', ...steps, attributes: ['number0', 'category1'] },
  },
  'fomaml, pnn': {
    model: { kind: 'pnn', ...tower, personal: [...head, 'numbers', 'layer0', 'layer1'] },
    method: { kind: 'fomaml', ...steps },
  },
};

const room = openedOnce(() => exportRoom(() => STORE));

/** A bundle that serves adgroups of fewer than `FEW_ROWS` rows their starts. */
async function exported({ model, method }: Sections): Promise<LoadedBundle> {
  const objects = new MemoryObjectStore();
  const serving: BundleServing = {
    adaptation: { innerRate: 0.2, innerSteps: 2 },
    served: [
      { supportRowCountMin: 0, supportRowCountMax: FEW_ROWS - 1, blocks: 'unadapted' },
      { supportRowCountMin: FEW_ROWS, supportRowCountMax: null, blocks: 'adapted' },
    ],
  };
  const config = exportableConfig(STORE, { model, method });
  const ofLabels = labelsOf(STORE.manifest).map(() => serving);
  const { digest } = await room.exported(exportSource(config, STORE, ofLabels), objects);
  return loadedBundle(objects, digest);
}

function exportedBlock({ index, model }: LoadedBundle, task: TaskRows) {
  const block = blockOfKey(index, at(STORE.tasks, task.taskIndex).key);
  return readBlock(model.blocks.layout, blockBytes(model.blocks, block));
}

describe('jobs of a server', () => {
  // Seen to fail: personal variables of block 0 in place of those that tasks share; bags without trained padding.
  test.each(Object.entries(CASES))('adapt as those of an export: %s', async (_, sections) => {
    const bundle = await exported(sections);
    const jobs = new AdaptJobs('a'.repeat(64), bundle);
    const { innerRate } = at(bundle.manifest.serving, 0).adaptation;
    const tasks = await STORE.readTasks(STORE.tasks.map((_task, place) => place));
    let movedMost = 0;
    for (const innerSteps of [0, 2]) {
      const adaptation = { innerRate, innerSteps };
      const alike = tasks.filter(
        ({ supportRowCount }) =>
          supportRowCount > 0 && supportRowCount >= FEW_ROWS === innerSteps > 0,
      );
      const { output } = await room.executor.execute(
        jobs.inputOf(alike.map(supportRowsOf), adaptation),
      );
      for (const [place, found] of jobs.tasksIn(output, alike.length).entries()) {
        const expected = exportedBlock(bundle, at(alike, place));
        for (const [name, { values }] of expected)
          for (const [index, value] of values.entries()) {
            const own = found.blocks.get(name)!.values[index]!;
            expect(Math.abs(own - value), `${name} ${index}`).toBeLessThan(
              1e-5 * Math.max(1, Math.abs(value)),
            );
            const initial = bundle.model.dense.get(name)?.values[index] ?? 0;
            movedMost = Math.max(movedMost, Math.abs(own - initial));
          }
      }
    }
    expect(movedMost).toBeGreaterThan(1e-2);
  });
});
