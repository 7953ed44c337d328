/** How far served scores are from evaluated ones: of one exported run, at every encoding of blocks. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { LocalCompute } from '../../coordinator/export/unknown-block.js';
import { objectStoreAt } from '../../coordinator/runs/places.js';
import { servedBlocksOf } from '../../coordinator/export/adapted-shards.js';
import { lossSum } from '../../coordinator/scoring/metrics.js';
import {
  decodeTestLogits,
  TEST_LOGITS_KEY,
  type TestLogits,
} from '../../coordinator/scoring/test-logits.js';
import { exportRun, serveRankings, type RankingService } from '../../infra/library/index.js';
import { at, spanAt } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { adaptedTaskOf } from '../../shared/bundle/block-codec.js';
import { filesOf } from '../../shared/bundle/array-files.js';
import type { BundleServing } from '../../shared/bundle/bundle-manifest.js';
import { blockOfKey } from '../../shared/bundle/key-index.js';
import { BLOCK_ENCODINGS, type BlockEncoding } from '../../shared/bundle/ranking-model.js';
import { readBundle, type LoadedBundle } from '../../shared/bundle/read-bundle.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { EncodedRows } from '../../shared/features/row-encoder.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import type { RawRows } from './raw-rows.js';

/** Rows of one request. */
const CANDIDATES = 2_000;

const ServedSchema = z.looseObject({ scores: z.array(z.number()) });

const EncodingEqualitySchema = z.strictObject({
  /** The largest difference from the captured graph, which evaluates, on the same blocks; null: not covered. */
  served: z.number().nullable(),
  /** The largest difference of the captured graph's score from what the evaluation predicted. */
  fromEvaluated: z.number(),
  /** Mean logloss of the rows. */
  loss: z.number(),
});

export const CaseEqualitySchema = z.strictObject({
  name: z.string(),
  method: z.string(),
  model: z.string(),
  adgroupCount: z.int(),
  rowCount: z.int(),
  /** Why the server refuses the model; null if it serves it. */
  refusal: z.string().nullable(),
  /** The largest difference of a served score from what the evaluation predicted, blocks in float32. */
  servedFromEvaluated: z.number().nullable(),
  encodings: z.record(z.string(), EncodingEqualitySchema),
  seconds: z.number(),
});
export type CaseEquality = z.infer<typeof CaseEqualitySchema>;

/** The query rows of held-out adgroups. */
export interface HeldOutRows {
  readonly store: TaskStore;
  readonly tasks: readonly TaskRows[];
  readonly raw: RawRows;
}

type Measured = Omit<CaseEquality, 'name' | 'seconds'>;

export async function measuredCase(
  config: RunConfig,
  heldOut: HeldOutRows,
  compute: LocalCompute,
): Promise<Measured> {
  const path = join(config.output, TEST_LOGITS_KEY);
  const testLogits = decodeTestLogits(readFileSync(path), path);
  const encodings: Record<string, z.infer<typeof EncodingEqualitySchema>> = {};
  let refusal: string | null = null;
  let servedFromEvaluated: number | null = null;
  for (const encoding of BLOCK_ENCODINGS) {
    const bundle = await exportedBundle(config, encoding);
    const evaluated = evaluatedLogits(testLogits, heldOut, at(bundle.loaded.manifest.serving, 0));
    const graph = await graphLogits(bundle.loaded, heldOut, compute);
    const answers = await servedLogits(bundle.address, heldOut);
    const served = 'logits' in answers ? answers.logits : null;
    refusal = 'refusal' in answers ? answers.refusal : null;
    if (encoding === 'float32' && served !== null)
      servedFromEvaluated = largestDifference(served, evaluated);
    encodings[encoding] = {
      served: served === null ? null : largestDifference(served, graph),
      fromEvaluated: largestDifference(graph, evaluated),
      loss: meanLoss(served ?? graph, heldOut),
    };
  }
  return {
    ...{ method: config.method.kind, model: config.model.kind, refusal, servedFromEvaluated },
    adgroupCount: heldOut.tasks.length,
    rowCount: heldOut.tasks.reduce((sum, task) => sum + queryRowsOf(task).rowCount, 0),
    encodings,
  };
}

async function exportedBundle(config: RunConfig, encoding: BlockEncoding) {
  const { bundles, digest, manifest } = await exportRun({ config, encoding, processes: 1 });
  const files = filesOf(objectStoreAt(bundles, {}));
  return {
    address: `${bundles}@${digest}`,
    loaded: await readBundle(manifest, files, digest),
  };
}

/** What the evaluation predicted with the blocks that are served. */
function evaluatedLogits(
  { taskKeys, rows, logits }: TestLogits,
  { store, tasks }: HeldOutRows,
  serving: BundleServing,
): Float32Array[] {
  return tasks.map(({ taskIndex }) => {
    const { key, supportRowCount } = at(store.tasks, taskIndex);
    const arms =
      servedBlocksOf(serving, supportRowCount) === 'adapted'
        ? ['meta-adapted']
        : ['meta-unadapted', 'global'];
    const found = arms.map((arm) => logits.get(arm)).find((each) => each !== undefined);
    const place = taskKeys.indexOf(key);
    if (found === undefined || place < 0) throw new Error(`${key} was not evaluated`);
    return found.subarray(...spanAt(rows.starts, place));
  });
}

/** By the captured graph, which evaluations predict with. */
async function graphLogits(
  { model, index }: LoadedBundle,
  { store, tasks }: HeldOutRows,
  compute: LocalCompute,
): Promise<Float32Array[]> {
  const scorer = await compute.scorerOf(model);
  return scorer.score(
    tasks.map((task) => ({
      adapted: adaptedTaskOf(model.blocks, blockOfKey(index, at(store.tasks, task.taskIndex).key)),
      rows: queryRowsOf(task),
    })),
  );
}

/** As a client gets them: the texts of the log, over HTTP. */
async function servedLogits(
  bundle: string,
  { store, tasks, raw }: HeldOutRows,
): Promise<{ readonly logits: Float32Array[] } | { readonly refusal: string }> {
  let service: RankingService;
  try {
    service = await serveRankings({ bundle, port: 0 });
  } catch (error) {
    if (!(error instanceof QianmoError && error.kind === 'usage')) throw error;
    return { refusal: error.report.found ?? error.message };
  }
  try {
    const logits: Float32Array[] = [];
    for (const task of tasks) {
      const { key, supportRowCount } = at(store.tasks, task.taskIndex);
      const numbers = task.logRows.subarray(supportRowCount);
      const scores: number[] = [];
      for (let start = 0; start < numbers.length; start += CANDIDATES) {
        const rows = raw.rowsOf(numbers.subarray(start, start + CANDIDATES));
        const candidates = rows.map((features) => ({ adgroup: key, features }));
        scores.push(...(await answered(service.url, { candidates })));
      }
      logits.push(Float32Array.from(scores));
    }
    return { logits };
  } finally {
    await service.close();
  }
}

async function answered(url: string, body: object): Promise<readonly number[]> {
  const answer = await fetch(`${url}/v1/score`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const content: unknown = await answer.json();
  if (answer.status !== 200) throw new Error(JSON.stringify(content));
  return ServedSchema.parse(content).scores;
}

function queryRowsOf({
  rowCount,
  supportRowCount: first,
  categoryIds,
  bagIds,
  numbers,
}: TaskRows): EncodedRows {
  return {
    rowCount: rowCount - first,
    categoryIds: categoryIds.map((ids) => ids.slice(first)),
    bagIds: bagIds.map((ids) => ids.slice((first * ids.length) / rowCount)),
    numbers: numbers.map((values) => values.slice(first)),
  };
}

function largestDifference(
  found: readonly Float32Array[],
  expected: readonly Float32Array[],
): number {
  let largest = 0;
  for (const [place, values] of found.entries()) {
    const others = at(expected, place);
    if (others.length !== values.length) return Infinity;
    for (const [row, value] of values.entries()) {
      const difference = Math.abs(value - at(others, row));
      // A score that is not a number is no small difference.
      if (!(difference <= largest)) largest = difference;
    }
  }
  return largest;
}

function meanLoss(logits: readonly Float32Array[], { tasks }: HeldOutRows): number {
  let [sum, shown] = [0, 0];
  for (const [place, task] of tasks.entries()) {
    const clicks = task.clicks.subarray(task.supportRowCount);
    const impressions = task.impressions.subarray(task.supportRowCount);
    sum += lossSum(at(logits, place), { clicks, impressions });
    shown += impressions.reduce((total, count) => total + count, 0);
  }
  return sum / shown;
}
