/**
 * Served scores beside evaluated ones, for every method and model and every encoding of blocks, on more than
 * 10,000 rows each. Writes `infra/results/served-equality.json` and `.md`; exits with 1 where a score differs.
 *
 *   npm run check -- served-equality
 *   npm run check -- served-equality --only maml,pnn    prints some cases and records nothing
 *
 * It takes about eight minutes on an idle machine; a stopped bench goes on where it ended, at the same commit. It needs the scoring kernel (`npm run setup`).
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { servedBlocksOf } from '../../coordinator/export/adapted-shards.js';
import type { LocalCompute } from '../../coordinator/export/unknown-block.js';
import { objectStoreAt } from '../../coordinator/runs/places.js';
import { openStoreAsPrepared } from '../../coordinator/runs/run-files.js';
import { lossSum } from '../../coordinator/scoring/metrics.js';
import {
  decodeTestLogits,
  TEST_LOGITS_KEY,
  type TestLogits,
} from '../../coordinator/scoring/test-logits.js';
import {
  evaluate,
  exportRun,
  loadPlugins,
  prepare,
  type RankingService,
  serveRankings,
  synthesize,
  train,
} from '../../infra/library/index.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { at, spanAt } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { filesOf } from '../../shared/bundle/array-files.js';
import { adaptedTaskOf } from '../../shared/bundle/block-codec.js';
import type { BundleServing } from '../../shared/bundle/bundle-manifest.js';
import { blockOfKey } from '../../shared/bundle/key-index.js';
import { BLOCK_ENCODINGS, type BlockEncoding } from '../../shared/bundle/ranking-model.js';
import { type LoadedBundle, readBundle } from '../../shared/bundle/read-bundle.js';
import { type RunConfig, RunConfigSchema } from '../../shared/config/run-config.js';
import type { EncodedRows } from '../../shared/features/row-encoder.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { type BenchContext, openBenchContext } from '../bench/bench-context.js';
import {
  benchHeader,
  type BenchHeader,
  circumstances,
  folderOfCommit,
  grouped,
  markdownTable,
  writeResult,
} from '../bench/bench-header.js';
import { benchOptions } from '../bench/bench-options.js';
import { listOf, oneOf } from '../bench/option-values.js';
import { MAML_PLUGIN } from './cases.js';
import { RawRows } from './raw-rows.js';
import { METHOD_CASES, MODEL_CASES, type WorldCase } from './world-cases.js';
import { type RunDepartures, worldRun } from './world-run.js';

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

const CaseEqualitySchema = z.strictObject({
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
type CaseEquality = z.infer<typeof CaseEqualitySchema>;

/** The query rows of held-out adgroups. */
interface HeldOutRows {
  readonly store: TaskStore;
  readonly tasks: readonly TaskRows[];
  readonly raw: RawRows;
}

type Measured = Omit<CaseEquality, 'name' | 'seconds'>;

async function measuredCase(
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

/** The logits that the evaluation predicted with the blocks that are served. */
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

interface EqualityRecord extends BenchHeader {
  readonly cases: readonly CaseEquality[];
}

/** The bar of a difference. */
const DIFFERENCE_MAX = 1e-5;

function equalityPage({ cases, ...header }: EqualityRecord): string {
  return [
    ...['# Served scores are evaluated scores', ''],
    `${circumstances(header)} The largest difference of a logit over all query rows of held-out adgroups of a small run: of the served score from what the`,
    'evaluation predicted (of models that the server refuses, of the captured graph on the blocks of the bundle), and of the server from',
    `the captured graph on the same blocks; the bar is ${DIFFERENCE_MAX}. The mean logloss is that in float32, and its change at the other encodings.`,
    '',
    ...markdownTable(
      [
        ...['run', 'method', 'model', 'rows', 'evaluated'],
        ...BLOCK_ENCODINGS.map((name) => `server ${name}`),
        ...['loss', 'float16'],
      ],
      cases.map(rowOf),
    ),
    '',
    ...refusalsOf(cases),
    '',
  ].join('\n');
}

function refusalsOf(cases: readonly CaseEquality[]): string[] {
  const refused = cases.filter(({ refusal }) => refusal !== null);
  if (refused.length === 0) return [];
  return [
    'The server refuses these, and the captured graph scores them from the bundle:',
    '',
    ...refused.map(({ name, refusal }) => `- ${name}: ${refusal}`),
  ];
}

/** All differences that the bar is held to. */
function differencesOf({ servedFromEvaluated, encodings }: CaseEquality): number[] {
  const exact = encodings['float32']?.fromEvaluated;
  const scored = Object.values(encodings).map(({ served }) => served);
  return [exact, servedFromEvaluated, ...scored].flatMap((found) =>
    found === undefined || found === null ? [] : [found],
  );
}

function rowOf(each: CaseEquality): string[] {
  const { name, method, model, rowCount, servedFromEvaluated, encodings } = each;
  const exact = encodings['float32'];
  const changeOf = (encoding: string): string => {
    const change = (encodings[encoding]?.loss ?? NaN) - (exact?.loss ?? NaN);
    return `${change < 0 ? '' : '+'}${change.toExponential(1)}`;
  };
  return [
    ...[name, method, model, grouped(rowCount)],
    written(servedFromEvaluated ?? exact?.fromEvaluated ?? null),
    ...BLOCK_ENCODINGS.map((encoding) => written(encodings[encoding]?.served ?? null)),
    ...[(exact?.loss ?? NaN).toFixed(5), changeOf('float16')],
  ];
}

function written(difference: number | null): string {
  return difference === null ? '' : difference.toExponential(1);
}

const ROW_COUNT = 60_000;

/** Held-out adgroups of all sizes with more than 10,000 query rows. */
const DATA = {
  rowSplit: {
    ...{ by: 'time', supportShare: 0.5, supportRowsMin: 2, queryRowsMin: 2, supportRowsMax: 32 },
  },
  taskSplit: { by: 'hash', validationShare: 0.1, testShare: 0.45 },
};
/** One cell, so that nothing has to be chosen but the blocks of each size. */
const EVALUATION = { innerRates: [0.3], innerSteps: [2] };

const SHARED_CROSS_LAYERS: readonly WorldCase[] = [
  { name: 'dcn-v2-shared', model: { kind: 'dcn-v2', crossLayers: 2 } },
  {
    name: 'dcn-v2-shared-stacked',
    model: { kind: 'dcn-v2', crossLayers: 2, crossRank: 2, crossTower: 'stacked' },
  },
];

const EQUALITY_CASES: readonly WorldCase[] = [
  ...METHOD_CASES,
  ...MODEL_CASES,
  ...SHARED_CROSS_LAYERS,
];

/** The run of a case in a folder that holds all of them. */
function configOf(name: string, departures: RunDepartures, folder: string): RunConfig {
  const places = { logs: join(folder, 'world.csv'), store: join(folder, 'store') };
  const run = worldRun(name, {
    ...departures,
    data: { ...departures.data, ...DATA, ...places },
    evaluation: { ...departures.evaluation, ...EVALUATION, ...armsOf(departures) },
  });
  return RunConfigSchema.parse({ ...run, output: join(folder, name) });
}

/** What does not adapt has no arms that do. */
function armsOf({ method }: RunDepartures): object {
  const isGlobal = method !== undefined && 'kind' in method && method.kind === 'global';
  return isGlobal ? { arms: ['global'] } : {};
}

/** The log and the task store that all cases read. */
async function prepareWorld(folder: string): Promise<void> {
  await synthesize({
    ...{ out: join(folder, 'world.csv'), rows: ROW_COUNT, adgroups: 200, users: 300 },
    ...{ clickRate: 0.2, seed: 7 },
  });
  await prepare({ config: configOf('world', {}, folder) });
}

/** Trains and evaluates the run of a case, and returns its config. */
async function evaluatedCase(each: WorldCase, folder: string): Promise<RunConfig> {
  const { name, base } = each;
  let { training = {} } = each;
  if (base !== undefined) {
    const config = configOf(`${name}-base`, base, folder);
    await train({ config, processes: 1, fresh: true });
    training = { ...training, startFrom: config.output };
  }
  const config = configOf(name, { ...each, training }, folder);
  await train({ config, processes: 1, fresh: true });
  await evaluate({ config, processes: 1 });
  return config;
}

const RESULTS = new URL('infra/results/', packageRoot).pathname;

// Before the first config is read.
await loadPlugins([MAML_PLUGIN]);

// As the command does: a line for each captured graph would hide the rest.
process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';

const options = benchOptions(import.meta.url, {
  only: {
    value: listOf(oneOf(EQUALITY_CASES.map(({ name }) => name))),
    about: 'measures these alone, with commas between them',
  },
});
const chosen = EQUALITY_CASES.filter(({ name }) => options.only?.includes(name) ?? true);
const header = benchHeader();
const folder = folderOfCommit('served-equality', header);
mkdirSync(folder, { recursive: true });
if (!existsSync(join(folder, 'store', 'manifest.json'))) await prepareWorld(folder);

const cases: CaseEquality[] = [];
for (const each of chosen) cases.push(keptCase(each.name) ?? (await newCase(each)));
if (options.only === undefined) {
  const record = { ...header, cases };
  writeResult(RESULTS, 'served-equality', record, equalityPage(record));
} else process.stdout.write(equalityPage({ ...header, cases }));
if (cases.flatMap(differencesOf).some((found) => !(found <= DIFFERENCE_MAX))) process.exitCode = 1;

function resultOf(name: string): string {
  return join(folder, `${name}.json`);
}

function keptCase(name: string): CaseEquality | null {
  const path = resultOf(name);
  if (!existsSync(path)) return null;
  return CaseEqualitySchema.parse(JSON.parse(readFileSync(path, 'utf8')));
}

async function newCase(each: WorldCase): Promise<CaseEquality> {
  const { name } = each;
  process.stderr.write(`== ${name}\n`);
  // A context of its own, so that tensors of one case are gone before the next.
  const context = openBenchContext();
  try {
    const { clock } = context;
    const startMs = clock.monotonicMs();
    const config = await evaluatedCase(each, folder);
    const compute = await context.machine.openCompute(context);
    const measured = await measuredCase(config, await heldOutRows(context), compute);
    const seconds = Math.round((clock.monotonicMs() - startMs) / 100) / 10;
    const found = { name, ...measured, seconds };
    writeFileSync(resultOf(name), JSON.stringify(found));
    for (const run of [name, `${name}-base`])
      rmSync(join(folder, run), { recursive: true, force: true });
    return found;
  } finally {
    await context.close();
  }
}

async function heldOutRows(context: BenchContext): Promise<HeldOutRows> {
  const store = await openStoreAsPrepared(configOf('world', {}, folder), context);
  const places = store.tasks.filter(({ split }) => split === 'test');
  const tasks = await store.readTasks(places.map(({ taskIndex }) => taskIndex));
  return { store, tasks, raw: new RawRows(join(folder, 'world.csv')) };
}
