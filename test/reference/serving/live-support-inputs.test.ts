/**
 * Live blocks of a model with support inputs: an adgroup that adapts while serving, from the support rows that the store
 * has of it, scores like the block that an export made of them.
 */

import { beforeAll, expect, test } from 'vitest';
import { at } from '../../../shared/base/arrays.js';
import { keyHashOf, blockOfKey } from '../../../shared/bundle/key-index.js';
import { type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { AdaptedTask } from '../../../shared/bundle/adapted-tasks.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { AdaptJobs } from '../../../worker/serving/server/live-adapter.js';
import { LiveBlocks } from '../../../worker/serving/server/live-blocks.js';
import { KernelScorer } from '../../../worker/serving/kernel-scorer.js';
import { requestOfRows } from '../../../worker/serving/ranking-request.js';
import {
  exportableConfig,
  exportableStore,
  exportRoom,
  exportSource,
  loadedBundle,
} from '../../fixtures/bundle/tiny-export.js';
import { supportRowsOf } from '../../fixtures/serving/support-rows-of.js';
import { openedOnce } from '../../fixtures/opened.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const STORE = exportableStore({
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
const room = openedOnce(() => exportRoom(() => STORE));
let bundle: LoadedBundle;
beforeAll(async () => {
  const objects = new MemoryObjectStore();
  const source = exportSource(exportableConfig(STORE, SECTIONS), STORE);
  const { digest } = await room.exported(source, objects);
  bundle = await loadedBundle(objects, digest);
});

type Hash = readonly [number, number];
const hashOf = (key: string): Hash => {
  const { low, high } = keyHashOf(Buffer.from(key));
  return [low, high];
};
const keyOf = (task: TaskRows): string => at(STORE.tasks, task.taskIndex).key;
const readTasks = () => STORE.readTasks(STORE.tasks.map((_task, place) => place));

async function adaptedOf(task: TaskRows): Promise<AdaptedTask> {
  const { adaptation } = at(bundle.manifest.serving, 0);
  const jobs = new AdaptJobs('a'.repeat(64), bundle);
  const { output } = await room.executor.execute(jobs.inputOf([supportRowsOf(task)], adaptation));
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
