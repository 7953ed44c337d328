/** The parsers that read what comes from outside of a process, each with valid examples to mutate. */

import { readFileSync } from 'node:fs';
import { fateOf } from '../../coordinator/dispatch/job-delivery.js';
import { packageRoot } from '../../infra/library/package-root.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { parse as parseYaml } from 'yaml';
import { parseConfig } from '../../shared/config/yaml-file.js';
import { SWEEP_CONFIG } from '../../shared/config/sweep-config.js';
import { encodeEvent, parseEventLine } from '../../shared/events/event-lines.js';
import { parseManifest } from '../../shared/tasks/store-folder.js';
import { decodeSums, encodeSums } from '../../shared/sums/delivered-sums.js';
import { rowCountOf } from '../../shared/sums/gradient-node.js';
import { decodeTensors, encodeTensors, viewTensors } from '../../shared/tensors/tensor-codec.js';
import { MemoryBlobStore } from '../../infra/simulation/memory-queue.js';
import { BlobMissingError, blobRefOf } from '../../shared/storage/blob-store.js';
import { type Job } from '../../shared/queue/protocol.js';
import {
  fetchJob,
  InputCache,
  type JobCarrier,
  JobFailedError,
} from '../../worker/carrying/carry-job.js';
import { jobLimitsOf } from '../../worker/carrying/job-limits.js';
import { ComputeReplySchema, ComputeRequestSchema } from '../../worker/process/compute-protocol.js';
import { instantClock } from '../fixtures/clocks/instant-clock.js';
import { everyEvent } from '../fixtures/every-event.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { ARROW_TARGETS } from './arrow-targets.js';
import { exampleJob, exampleReplies, exampleRequests } from './examples.js';
import type { FuzzTarget } from './fuzz-target.js';
import { HTTP_TARGETS } from './http-targets.js';
import { mutatedBytes, mutatedJson, mutatedText, pick } from './mutations.js';
import { RECORD_TARGETS } from './record-targets.js';
import { SERVING_TARGETS } from './serving-targets.js';
import { adaptedTarget, checkpointTarget } from './store-targets.js';
import { jobResult } from '../fixtures/job-result.js';

const textOf = (input: Uint8Array): string => Buffer.from(input).toString('utf8');

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

const codec: FuzzTarget = {
  name: 'codec',
  share: 1,
  inputOf: (stream) => mutatedBytes(stream, tensors),
  parse: (input) => {
    const views = viewTensors(input, 'the input');
    const copies = decodeTensors(input, 'the input');
    for (const [name, { shape, values }] of copies)
      if (shape.reduce((product, extent) => product * extent, 1) !== values.length)
        throw new Error(`${name} has a shape of another size than its values`);
    if (copies.size !== views.size) throw new Error('views differ from copies');
  },
};

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
const sums: FuzzTarget = {
  name: 'delivered-sums',
  share: 1,
  inputOf: (stream) => mutatedBytes(stream, sumBytes),
  parse: (input) => {
    const found = decodeSums(input, sumShapes);
    for (const { dense, idsByTable, rows } of found?.nodes ?? [])
      if (dense.length !== 3 || rows.length !== 2 * rowCountOf(idsByTable))
        throw new Error('a sum has another size than its ids');
  },
};

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
  ...ARROW_TARGETS,
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
