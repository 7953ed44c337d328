/**
 * The Open Inference Protocol, version 2, over HTTP: health, metadata and inference of the one model `ranking`, whose
 * version is the digest of the bundle. A row is a candidate; the protocol knows no order, bids or feedback.
 */

import type { LoadedBundle } from '../../../../shared/bundle/read-bundle.js';
import { columnOfTexts } from '../../columns/candidate-column.js';
import { z } from 'zod';
import {
  JSON_TYPE,
  jsonAnswer,
  type Answer,
  type Endpoint,
  type NamedSchema,
  type ReceivedRequest,
} from '../endpoint.js';
import { KEY_SEPARATOR, type RankingBody } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';
import type { ServedBundle } from '../served-bundle.js';
import { exampleColumns, exampleKeys } from '../forms/example-requests.js';
import {
  InferenceRequestSchema,
  readInference,
  rowsOf,
  wrong,
  type InferenceRequest,
  type InputTensor,
} from './tensors.js';

const MODEL = 'ranking';
const ADGROUP = 'adgroup';
const LENGTH_HEADER = 'inference-header-content-length';
const BINARY_TYPE = 'application/octet-stream';

const TENSOR = z.looseObject({
  ...{ name: z.string(), datatype: z.string(), shape: z.array(z.int()) },
});
const OF_MODEL = { model: () => MODEL };

function named(name: string, shape: z.ZodRawShape): NamedSchema {
  return { name, schema: z.looseObject(shape) };
}

const READY = named('ServerReady', { ready: z.boolean() });

/** One row, of an adgroup that the bundle knows. */
function exampleInference(bundle: ServedBundle): object {
  const [key] = exampleKeys(bundle);
  const { taskColumns } = bundle.loaded.manifest;
  const shape = taskColumns.length === 1 ? [1] : [1, taskColumns.length];
  const adgroup = { name: ADGROUP, shape, datatype: 'BYTES', data: [key].flat() };
  const columns = Object.entries(exampleColumns(bundle) ?? {});
  const inputs = columns.map(([name, value]) =>
    Array.isArray(value)
      ? { name, shape: [1, 1], datatype: 'BYTES', data: [''] }
      : { name, shape: [1], datatype: datatypeOf(value), data: [value] },
  );
  return { inputs: [adgroup, ...inputs] };
}

function datatypeOf(value: unknown): string {
  if (typeof value === 'number') return 'FP64';
  return typeof value === 'boolean' ? 'BOOL' : 'BYTES';
}

export const inferenceEndpoints: readonly Endpoint[] = [
  {
    method: 'GET',
    path: '/v2/health/live',
    isOpen: true,
    description: {
      summary: 'the process answers',
      answer: named('ServerLive', { live: z.boolean() }),
    },
    answer: () => jsonAnswer({ live: true }),
  },
  {
    ...{ method: 'GET', path: '/v2/health/ready', isOpen: true, answer: ready },
    description: { summary: 'requests may be sent', answer: READY },
  },
  {
    ...{ method: 'GET', path: '/v2/models/{model}/ready', isOpen: true, answer: ready },
    description: { summary: 'requests may be sent', answer: READY, parameters: OF_MODEL },
  },
  {
    ...{ method: 'GET', path: '/v2' },
    description: {
      summary: 'the Open Inference Protocol, version 2',
      answer: named('ServerMetadata', {
        ...{ name: z.string(), version: z.string(), extensions: z.array(z.string()) },
      }),
    },
    answer: () => jsonAnswer({ name: 'qianmo', version: '1', extensions: ['binary_tensor_data'] }),
  },
  {
    ...{ method: 'GET', path: '/v2/models/{model}' },
    description: {
      summary: 'the tensors of the model',
      answer: named('ModelMetadata', {
        ...{ name: z.string(), versions: z.array(z.string()), platform: z.string() },
        ...{ inputs: z.array(TENSOR), outputs: z.array(TENSOR) },
      }),
      parameters: OF_MODEL,
    },
    answer: (request) => {
      demandModel(request);
      return jsonAnswer(modelMetadata(request.bundle.digest, request.bundle.loaded));
    },
  },
  {
    ...{ method: 'POST', path: '/v2/models/{model}/infer' },
    description: {
      summary: 'scores of rows, each of which is a candidate',
      request: { name: 'InferenceRequest', schema: InferenceRequestSchema },
      answer: named('InferenceAnswer', {
        ...{ model_name: z.string(), model_version: z.string(), outputs: z.array(TENSOR) },
      }),
      example: exampleInference,
      parameters: OF_MODEL,
    },
    mediaTypes: [JSON_TYPE, BINARY_TYPE],
    answer: infer,
  },
];

function ready(request: ReceivedRequest): Answer {
  if ('model' in request.parameters) demandModel(request);
  if (!request.server.isDraining) return jsonAnswer({ ready: true });
  throw new RefusedRequest({
    reason: 'draining',
    what: 'the server is stopping',
    cure: 'ask another server',
  });
}

function demandModel({ parameters }: ReceivedRequest): void {
  const found = parameters['model'];
  if (found === MODEL) return;
  throw new RefusedRequest({
    reason: 'no-such-path',
    what: 'there is no such model',
    expected: MODEL,
    found,
  });
}

function modelMetadata(digest: string, { manifest, encoder }: LoadedBundle): object {
  const columns = new Map([[ADGROUP, { datatype: 'BYTES', shape: adgroupShape(manifest) }]]);
  for (const { name, column, kind } of encoder.features) {
    const input = column ?? name;
    if (manifest.taskColumns.includes(input)) continue;
    columns.set(input, {
      datatype: kind === 'number' ? 'FP64' : 'BYTES',
      shape: kind === 'bag' ? [-1, -1] : [-1],
    });
  }
  return {
    ...{ name: MODEL, versions: [digest], platform: 'qianmo' },
    inputs: [...columns].map(([name, input]) => ({ name, ...input })),
    outputs: [
      { name: 'score', datatype: 'FP32', shape: [-1] },
      { name: 'expected', datatype: 'FP64', shape: [-1] },
    ],
  };
}

function adgroupShape({ taskColumns }: LoadedBundle['manifest']): number[] {
  return taskColumns.length === 1 ? [-1] : [-1, taskColumns.length];
}

function infer(received: ReceivedRequest): Answer {
  demandModel(received);
  const { request, inputs } = readInference(received.body, headerByteCountOf(received));
  const { bundle } = received;
  const { scores, expected } = bundle.estimates(rankingBodyOf(inputs));
  const outputs = {
    score: { datatype: 'FP32', values: Float32Array.from(scores) },
    expected: { datatype: 'FP64', values: Float64Array.from(expected) },
  } as const;
  const asked = outputsOf(request);
  const raw: Uint8Array[] = [];
  const described = asked.map(({ name, isBinary }) => {
    const { datatype, values } = outputs[name];
    const head = { name, datatype, shape: [values.length] };
    if (!isBinary) return { ...head, data: Array.from(values) };
    raw.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return { ...head, parameters: { binary_data_size: values.byteLength } };
  });
  const answer = {
    ...{ model_name: MODEL, model_version: bundle.digest },
    ...(request.id === undefined ? {} : { id: request.id }),
    outputs: described,
  };
  if (raw.length === 0) return jsonAnswer(answer);
  const json = Buffer.from(JSON.stringify(answer));
  return {
    mediaType: BINARY_TYPE,
    headers: { 'Inference-Header-Content-Length': String(json.byteLength) },
    content: Buffer.concat([json, ...raw]),
  };
}

function headerByteCountOf({ headers, mediaType }: ReceivedRequest): number | null {
  const text = headers[LENGTH_HEADER];
  if (text === undefined && mediaType === JSON_TYPE) return null;
  if (typeof text === 'string' && /^\d{1,9}$/.test(text)) return Number(text);
  throw wrong('the length of the JSON before the raw tensors is not said', LENGTH_HEADER);
}

const OUTPUTS = ['score', 'expected'] as const;

function outputsOf({ outputs, parameters }: InferenceRequest) {
  const all = parameters['binary_data_output'] === true;
  if (outputs === undefined) return OUTPUTS.map((name) => ({ name, isBinary: all }));
  return outputs.map(({ name, parameters: own }) => {
    const known = OUTPUTS.find((each) => each === name);
    if (known === undefined) throw wrong('the model has no such output', `outputs: ${name}`);
    return { name: known, isBinary: (own['binary_data'] ?? all) === true };
  });
}

/** Tensors as the columns of candidates. */
function rankingBodyOf(inputs: readonly InputTensor[]): RankingBody {
  const names = inputs.map(({ name }) => name);
  const twice = names.find((name, place) => names.indexOf(name) !== place);
  if (twice !== undefined) throw wrong('an input comes twice', twice);
  const adgroups = inputs.find(({ name }) => name === ADGROUP);
  if (adgroups === undefined) throw wrong('the request has no tensor of adgroups', ADGROUP);
  const keys = rowsOf(adgroups).map((key) => [key].flat().map(partOfKey).join(KEY_SEPARATOR));
  const uneven = inputs.find(({ shape }) => shape[0] !== keys.length);
  if (uneven !== undefined) throw wrong('tensors have different numbers of rows', uneven.name);
  const features = inputs
    .filter(({ name }) => name !== ADGROUP)
    .map((input) => [input.name, { form: 'values', values: rowsOf(input) }] as const);
  return {
    ...{ context: {}, candidateCount: keys.length, adgroups: columnOfTexts(keys) },
    ...{ keyTexts: () => keys, features: new Map(features), bids: null, pacings: null },
    ...{ squash: 1, reserve: 0, seed: null, bundle: null, fields: null, slots: null },
    ...{ requestKey: null, explain: false },
  };
}

function partOfKey(part: string | number | boolean | null): string {
  if (typeof part === 'number' && Number.isInteger(part) && !Number.isSafeInteger(part))
    throw wrong('a whole number of this size loses digits as a number: send it as a text', ADGROUP);
  return String(part);
}
