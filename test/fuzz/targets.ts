/** The parsers that read what comes from outside of a process, each with valid examples to mutate. */

import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import {
  CHECKPOINT_FORMAT_VERSION,
  LATEST_KEY,
} from '../../coordinator/checkpoints/checkpoint-manifest.js';
import { fateOf } from '../../coordinator/dispatch/job-delivery.js';
import { parseRunArgument } from '../../coordinator/scoring/compare-runs.js';
import { parseReport, reportJson } from '../../coordinator/scoring/evaluation-report.js';
import { decodeTestLogits } from '../../coordinator/scoring/test-logits.js';
import { parseSweepRecord } from '../../coordinator/sweep/sweep-record.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { MemoryBlobStore } from '../../infra/simulation/memory-queue.js';
import { decodeAdaptedTasks, encodeAdaptedTasks } from '../../shared/bundle/adapted-tasks.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { SWEEP_CONFIG } from '../../shared/config/sweep-config.js';
import { parseConfig } from '../../shared/config/yaml-file.js';
import { encodeEvent, parseEventLine } from '../../shared/events/event-lines.js';
import { type Job, PROTOCOL_VERSION } from '../../shared/queue/protocol.js';
import { BlobMissingError, blobRefOf } from '../../shared/storage/blob-store.js';
import { MemoryObjectStore } from '../../shared/storage/memory-object-store.js';
import { StorageConfigSchema } from '../../shared/storage/open-object-store.js';
import { decodeSums, encodeSums } from '../../shared/sums/delivered-sums.js';
import { rowCountOf } from '../../shared/sums/gradient-node.js';
import * as arrow from '../../shared/tasks/arrow-files.js';
import { parseManifest } from '../../shared/tasks/store-folder.js';
import { decodeTaskCatalog, encodeTaskCatalog } from '../../shared/tasks/task-catalog.js';
import { decodeDictionary, taskRowsOf } from '../../shared/tasks/task-store-reader.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import { decodeTensors, encodeTensors, viewTensors } from '../../shared/tensors/tensor-codec.js';
import {
  fetchJob,
  InputCache,
  type JobCarrier,
  JobFailedError,
} from '../../worker/carrying/carry-job.js';
import { jobLimitsOf } from '../../worker/carrying/job-limits.js';
import { ComputeReplySchema, ComputeRequestSchema } from '../../worker/process/compute-protocol.js';
import { instantClock } from '../fixtures/clocks/instant-clock.js';
import { formulaEvaluation } from '../fixtures/evaluation/formula-evaluation.js';
import { everyEvent } from '../fixtures/every-event.js';
import { jobResult } from '../fixtures/job-result.js';
import { checkpointsIn } from '../fixtures/stores/checkpoint-stores.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { tinySpec, tinyState } from '../fixtures/training-states.js';
import type { FuzzTarget } from './fuzz-target.js';
import { HTTP_TARGETS } from './http-targets.js';
import { mutatedBytes, mutatedJson, mutatedText, pick } from './mutations.js';
import { SERVING_TARGETS } from './serving-targets.js';

/** Valid jobs and messages, which the fuzzer mutates. */
const exampleJob: Job = {
  ...{ protocolVersion: PROTOCOL_VERSION, epoch: 1, runId: 'fuzz', outerStep: 0, jobIndex: 0 },
  store: { address: '/nowhere', digest: 'none', storage: StorageConfigSchema.parse({}) },
  model: {
    ...{ kind: 'logistic', embeddingWidth: 1, hiddenWidths: [], adgroupEmbedding: false },
    ...{ personal: ['bias'], embeddingDeviation: 0.05 },
  },
  taskIndices: [0, 1],
  microBatchRowsMax: 1024,
  device: 'auto',
  portable: false,
  dense: blobRefOf(Uint8Array.of(1)),
  work: {
    ...{ kind: 'gradient', method: { kind: 'global' }, taskWeights: [0.5, 0.5] },
    leaves: { first: 1, stepLeafCount: 4, shapes: [[2, 4, 8, 16, 64]] },
  },
  ...{ timeoutMs: 30_000, blobLifetimeMs: 60_000 },
};

const exampleRequests: readonly unknown[] = [
  { kind: 'start', device: 'auto' },
  { kind: 'shared', of: 'dense', sha256: 'a', bytes: 'BYTES' },
  { kind: 'prepare', requestId: 1, job: exampleJob, rowPack: 'BYTES' },
  { kind: 'execute', requestId: 1 },
];

const exampleReplies: readonly unknown[] = [
  { kind: 'progress', requestId: 1, progress: { phase: 'reading' } },
  {
    ...{ kind: 'done', requestId: 1, output: 'BYTES', queryRowCount: 1, computeMs: 1 },
    ...{ backend: 'b', fingerprint: 'test-01234567', residentByteCount: 1 },
  },
  {
    ...{ kind: 'failed', requestId: null, residentByteCount: 1 },
    report: { kind: 'data', what: 'w', where: 'x', found: 'y', cure: 'z' },
  },
];

const textOf = (input: Uint8Array): string => Buffer.from(input).toString('utf8');

const { report, testLogits } = await formulaEvaluation({ store: tinyTaskStore({ taskCount: 30 }) });
const reportValue: unknown = JSON.parse(reportJson(report));

const cell = { kind: 'inner-steps', innerSteps: 2, innerRate: 0.1 };
const score = { rungIndex: 0, outerSteps: 10, validationLogloss: 0.5, cell, metaDigest: 'a' };
const sweepRecord: unknown = {
  ...{ formatVersion: 1, kind: 'sweep', sweep: 's', base: 'b' },
  ...{ planHash: 'p', storeDigest: 'd', criterion: 'c', loss: 'logloss' },
  rungs: [{ outerSteps: 10, trialCount: 1 }],
  trials: [
    {
      ...{ name: 't', run: 'r', output: 'o', settings: { a: 1 }, configHash: 'h' },
      scores: [score],
    },
  ],
  best: { trial: 't', validationLogloss: 0.5, cell, config: 'run: r' },
};

const bytesTarget = (
  name: string,
  example: Uint8Array,
  parse: FuzzTarget['parse'],
): FuzzTarget => ({
  ...{ name, share: 1, parse },
  inputOf: (stream) => mutatedBytes(stream, example),
});
const jsonTarget = (
  name: string,
  share: number,
  value: unknown,
  parse: (text: string) => unknown,
): FuzzTarget => ({
  ...{ name, share },
  inputOf: (stream) => Buffer.from(mutatedJson(stream, value)),
  parse: (input) => parse(textOf(input)),
});

/** Records that commands leave for later ones: evaluations, which `compare` reads, and sweeps. */
const RECORD_TARGETS: readonly FuzzTarget[] = [
  jsonTarget('evaluation-report', 0.2, reportValue, (text) => parseReport(text, 'the input')),
  bytesTarget('test-logits', testLogits, (input) => decodeTestLogits(input, 'the input')),
  jsonTarget('sweep-record', 1, sweepRecord, (text) => parseSweepRecord(text, 'the input')),
  {
    ...{ name: 'compare-argument', share: 0.2 },
    inputOf: (stream) => Buffer.from(mutatedText(stream, 's3://bucket/runs/a:global')),
    parse: (input) => parseRunArgument(textOf(input)),
  },
];

/** The readers of a store put any error of these parsers into their own. */
const isRefusal = (error: unknown): boolean => error instanceof Error;

function fileOf(columns: Readonly<Record<string, arrow.Data>>, length: number): Uint8Array {
  const fields = Object.entries(columns).map(
    ([name, { type }]) => new arrow.Field(name, type, false),
  );
  const schema = new arrow.Schema(fields);
  const type = new arrow.Struct(fields);
  const data = arrow.makeData({ type, length, nullCount: 0, children: Object.values(columns) });
  return arrow.tableToIPC(new arrow.Table(schema, [new arrow.RecordBatch(schema, data)]), 'file');
}

/**
 * Catalog, dictionary and rows of a task store. Without the checks before it, the Arrow library does not return from some
 * damaged files.
 */
async function arrowTargets(): Promise<readonly FuzzTarget[]> {
  const tasks = Array.from({ length: 5 }, (_, index) => ({
    ...{ key: `task${index}`, split: 'train' as const, supportRowCount: 3, queryRowCount: 2 },
    ...{ fileIndex: 0, batchIndex: 0, rowOffset: index * 5, firstSeenTime: index },
  }));
  const catalog = encodeTaskCatalog(tasks, tasks);

  const texts = arrow.vectorFromArray([null, 'a', 'münchen', ''], new arrow.Utf8());
  const dictionary = fileOf(
    { value: texts.data[0] ?? arrow.makeData({ type: new arrow.Utf8() }) },
    texts.length,
  );

  const store = tinyTaskStore({ taskCount: 1, bags: [{ rowCount: 4, lengthMax: 3 }] });
  const [task] = store.tasks;
  const [rows] = await store.readTasks([0]);
  if (task === undefined || rows === undefined) throw new Error('the store has a task');
  const { rowCount: length, categoryIds, bagIds, numbers } = rows;
  const ints = (data: Int32Array): arrow.Data =>
    arrow.makeData({ type: new arrow.Int32(), length: data.length, nullCount: 0, data });
  const floats = (data: Float32Array): arrow.Data =>
    arrow.makeData({ type: new arrow.Float32(), length: data.length, nullCount: 0, data });
  const listsOf = (ids: Int32Array): arrow.Data =>
    arrow.makeData({
      type: new arrow.FixedSizeList(3, new arrow.Field('item', new arrow.Int32(), false)),
      ...{ length, nullCount: 0, child: ints(ids) },
    });
  const rowFile = fileOf(
    {
      row: arrow.makeData({
        type: new arrow.Int64(),
        ...{ length, nullCount: 0, data: BigInt64Array.from(rows.logRows, (row) => BigInt(row)) },
      }),
      time: arrow.makeData({ type: new arrow.Float64(), length, nullCount: 0, data: rows.times }),
      clicks: floats(rows.clicks),
      impressions: floats(rows.impressions),
      ...Object.fromEntries(categoryIds.map((ids, index) => [`category${index}`, ints(ids)])),
      ...Object.fromEntries(bagIds.map((ids, index) => [`bag${index}`, listsOf(ids)])),
      ...Object.fromEntries(numbers.map((values, index) => [`number${index}`, floats(values)])),
    },
    length,
  );

  return [
    { ...bytesTarget('store-catalog', catalog, (input) => decodeTaskCatalog(input)), isRefusal },
    bytesTarget('store-dictionary', dictionary, (input) => decodeDictionary(input, 'the input')),
    {
      ...bytesTarget('store-rows', rowFile, (input) => {
        arrow.checkArrowBytes(input);
        for (const batch of arrow.tableFromIPC(input).batches)
          taskRowsOf(batch, store.manifest, task, 0);
      }),
      isRefusal,
    },
  ];
}

const layout: Parameters<typeof encodeAdaptedTasks>[0] = {
  blocks: new Map([['bias', { shape: [1] }]]),
  encodedFeatures: ['site'],
};
const taskIndices = [3, 8];
const adapted = encodeAdaptedTasks(
  layout,
  taskIndices.map((taskIndex) => ({
    ...{ taskIndex, loss: 'binary', isAlone: false },
    blocks: new Map([['bias', { shape: [1], values: Float32Array.of(1) }]]),
    support: {
      clicks: 1,
      impressions: 2,
      byValue: [new Map([[4, { clicks: 1, impressions: 2 }]])],
    },
  })),
);

const adaptedTarget = bytesTarget('adapted-tasks', adapted, (input) =>
  decodeAdaptedTasks(input, layout, taskIndices, 'the input'),
);

const written = new MemoryObjectStore();
await checkpointsIn(written).write(tinyState(tinySpec(), 4));
const manifestKey = (await written.list('manifests/'))[0] ?? '';
const manifestText = Buffer.from((await written.get(manifestKey))?.bytes ?? []).toString('utf8');
const manifest: unknown = JSON.parse(manifestText);

/** The manifest is changed and named by its new content, as by a writer that has gone wrong. */
const checkpointTarget: FuzzTarget = {
  name: 'checkpoint',
  share: 0.2,
  inputOf: (stream) => Buffer.from(mutatedJson(stream, manifest)),
  parse: async (input) => {
    const store = new MemoryObjectStore();
    for (const key of await written.list('blobs/')) {
      const blob = await written.get(key);
      if (blob !== null) await store.put(key, blob.bytes, { kind: 'always' });
    }
    const sha256 = sha256Of(input);
    const key = `manifests/000000004-${sha256.slice(0, 8)}.json`;
    const latest = {
      formatVersion: CHECKPOINT_FORMAT_VERSION,
      outerStep: 4,
      manifest: key,
      sha256,
    };
    await store.put(key, input, { kind: 'always' });
    await store.put(LATEST_KEY, Buffer.from(JSON.stringify(latest)), { kind: 'always' });
    await checkpointsIn(store).latest();
  },
};

/** The queue gives values, so a text that is not JSON never arrives. */
function valueOf(input: Uint8Array): unknown {
  try {
    return JSON.parse(textOf(input));
  } catch {
    return null;
  }
}

const tensors = encodeTensors(
  new Map([
    ['a', { shape: [2, 3], values: new Float32Array(6) }],
    ['b/ä', { shape: [], values: Float64Array.of(1) }],
    ['c', { shape: [3], values: Int32Array.of(1, 2, 3) }],
    ['d', { shape: [0], values: new Uint8Array(0) }],
  ]),
);

const codec = bytesTarget('codec', tensors, (input) => {
  const views = viewTensors(input, 'the input');
  const copies = decodeTensors(input, 'the input');
  for (const [name, { shape, values }] of copies)
    if (shape.reduce((product, extent) => product * extent, 1) !== values.length)
      throw new Error(`${name} has a shape of another size than its values`);
  if (copies.size !== views.size) throw new Error('views differ from copies');
});

const nodeIds = [
  [Int32Array.of(1, 4), Int32Array.of(2)],
  [Int32Array.of(3), new Int32Array(0)],
];
const sumShapes: Parameters<typeof decodeSums>[1] = {
  ...{ idsByNode: nodeIds, denseCount: 3, tableRowWidth: 2, taskCount: 2, asksBefore: true },
};
const sumBytes = encodeSums(
  {
    nodes: nodeIds.map((idsByTable) => ({
      ...{ dense: Float32Array.of(1, 2, 3), idsByTable },
      rows: new Float32Array(2 * rowCountOf(idsByTable)),
    })),
    losses: {
      ...{ query: Float32Array.of(1, 2), support: Float32Array.of(3, 4) },
      queryBefore: Float32Array.of(5, 6),
    },
  },
  sumShapes.tableRowWidth,
);

/** What a coordinator reads of a gradient. */
const sums = bytesTarget('delivered-sums', sumBytes, (input) => {
  const found = decodeSums(input, sumShapes);
  for (const { dense, idsByTable, rows } of found?.nodes ?? [])
    if (dense.length !== 3 || rows.length !== 2 * rowCountOf(idsByTable))
      throw new Error('a sum has another size than its ids');
});

const blobs = new MemoryBlobStore();
const dense = await blobs.put(Uint8Array.of(1));
const job: Job = { ...exampleJob, dense };
const carrier: JobCarrier = {
  blobsOf: () => blobs,
  sharedInputs: new InputCache(1_000),
  executor: {
    execute: () => Promise.reject(new Error('not executed')),
    close: () => Promise.resolve(),
  },
  clock: instantClock(),
  workerName: 'w',
  onTrouble: () => undefined,
  limits: jobLimitsOf({ stores: ['/'], endpoints: [], workingFolder: '/', environment: {} }),
};

const jobs: FuzzTarget = {
  name: 'job',
  share: 1,
  inputOf: (stream) => Buffer.from(mutatedJson(stream, job)),
  parse: (input) => fetchJob(valueOf(input), carrier, new AbortController().signal),
  isRefusal: (error) => error instanceof JobFailedError || error instanceof BlobMissingError,
};

const result = jobResult({ ...job, output: blobRefOf(Uint8Array.of(1)) });

const results: FuzzTarget = {
  name: 'result',
  share: 1,
  inputOf: (stream) => Buffer.from(mutatedJson(stream, result)),
  parse: (input) => {
    const value = valueOf(input);
    fateOf({ state: 'completed', returnValue: value, worker: 'w' }, job);
    fateOf({ state: 'failed', reason: textOf(input), worker: 'w' }, job);
  },
};

const messages: FuzzTarget = {
  name: 'compute-protocol',
  share: 1,
  inputOf: (stream) =>
    Buffer.from(mutatedJson(stream, pick(stream, [...exampleRequests, ...exampleReplies]))),
  parse: (input) => {
    const value = withBytes(valueOf(input));
    ComputeRequestSchema.safeParse(value);
    ComputeReplySchema.safeParse(value);
  },
};

/** JSON has no bytes; the examples name them. */
function withBytes(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, part]: [string, unknown]) => [
      name,
      part === 'BYTES' ? Uint8Array.of(1, 2) : part,
    ]),
  );
}

const events: FuzzTarget = {
  name: 'event-line',
  share: 1,
  inputOf: (stream) => {
    const line = encodeEvent({ ...pick(stream, everyEvent), epochMs: 1 });
    return Buffer.from(mutatedJson(stream, JSON.parse(line)));
  },
  parse: (input) => parseEventLine(textOf(input), 'the input'),
};

const storeManifest: FuzzTarget = {
  name: 'store-manifest',
  share: 1,
  inputOf: (stream) => Buffer.from(mutatedJson(stream, tinyTaskStore().manifest)),
  parse: (input) => parseManifest(input, 'the input'),
};

const exampleText = (name: string): string =>
  readFileSync(new URL(`infra/examples/${name}`, packageRoot), 'utf8');

function configTarget(
  name: string,
  examples: readonly string[],
  parse: (yaml: string) => unknown,
): FuzzTarget {
  const texts = examples.map(exampleText);
  return {
    name,
    share: 0.05,
    inputOf: (stream) => {
      const text = pick(stream, texts);
      const isValue = stream.below(2) === 0;
      return Buffer.from(
        isValue ? mutatedJson(stream, parseYaml(text)) : mutatedText(stream, text),
      );
    },
    parse: (input) => parse(textOf(input)),
  };
}

export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  codec,
  sums,
  adaptedTarget,
  jobs,
  results,
  messages,
  events,
  storeManifest,
  checkpointTarget,
  ...(await arrowTargets()),
  ...RECORD_TARGETS,
  ...HTTP_TARGETS,
  ...SERVING_TARGETS,
  configTarget('run-config', ['movielens.yaml', 'segments.yaml', 'synthetic.yaml'], (yaml) =>
    parseConfig(RUN_CONFIG, yaml, 'the input'),
  ),
  configTarget('sweep-config', ['sweep.yaml'], (yaml) =>
    parseConfig(SWEEP_CONFIG, yaml, 'the input'),
  ),
];
