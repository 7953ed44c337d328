/** The requests of calls that workers and ranking servers of this process carry out. */

import { z } from 'zod';
import {
  decimal,
  describeField,
  integer,
  oneOf,
  text,
  texts,
} from '../../coordinator/runs/request-fields.js';
import {
  DEVICE,
  HOST,
  PORT,
  QUEUE_PREFIX_DEFAULT,
  REQUESTS,
} from '../../coordinator/runs/requests.js';
import { AutoTrialsMaxSchema } from '../../shared/config/auto-config.js';
import { GPU_INDEX_MAX } from '../../shared/config/compute-config.js';
import { DEADLINE_MS_MAX, EXPLAINED_DEFAULT } from '../../worker/serving/server/server-limits.js';

export const ConvertRequestSchema = z.strictObject({
  ...REQUESTS.bundle.shape,
  format: oneOf(['onnx'], '<format> onnx'),
  out: text('<folder> the folder of the model, which must not be there or be empty'),
});

const { logs: _logs, ...proposal } = REQUESTS.init.shape;

export const StartRequestSchema = z.strictObject({
  files: texts(
    '<file> logs as init reads them: CSV, TSV, JSON lines or Parquet; files, globs, s3://. Or a config that init or start has written',
  ).optional(),
  ...proposal,
  trialsMax: describeField(AutoTrialsMaxSchema, '<count> how many trials to begin at most', {
    option: 'trials',
  }).optional(),
});

/** The place of the metrics of a process. */
export const METRICS_FIELDS = {
  metricsPort: describeField(
    PORT,
    '<port> serve metrics for Prometheus on this port, 0 for any free one',
  ).optional(),
  metricsHost: text(
    '<host> address of the metrics; no authentication, use on trusted networks only',
  ).default('127.0.0.1'),
};

export const ServeRequestSchema = z.strictObject({
  bundle: text('<address> ADDRESS or ADDRESS@LABEL of a bundle; latest by default'),
  canary: text('<address> ADDRESS@LABEL of a bundle for a share of the requests').optional(),
  canaryShare: decimal({ from: 0, upTo: 1 }, '<share> fraction of requests for the canary').default(
    0.05,
  ),
  host: HOST,
  port: PORT.default(8_080),
  tokenFile: text('<file> token of requests; also the variable QIANMO_SERVE_TOKEN').optional(),
  writeTokenFile: text(
    '<file> token of requests that change what is served (/v1/adapt, /v1/adgroups); also QIANMO_SERVE_WRITE_TOKEN; default: the token of requests',
  ).optional(),
  processes: integer(1, 256, '<count> processes that answer on the port').default(1),
  pollSeconds: decimal(
    { above: 0, upTo: 3_600 },
    '<seconds> seconds between two looks at the label',
  ).default(5),
  cache: text('<folder> cache of files from S3; default: in the cache of the user').optional(),
  cacheGib: decimal({ above: 0, upTo: 1_048_576 }, '<size> cache size limit in GiB').default(64),
  queue: integer(1, 100_000, '<requests> requests that may wait for the scorer').default(256),
  deadlineMs: integer(1, DEADLINE_MS_MAX, '<ms> the longest that a request may wait').default(
    1_000,
  ),
  explainMax: integer(
    0,
    1_000,
    '<candidates> candidates of a request whose scores are explained, if it asks for it',
  ).default(EXPLAINED_DEFAULT),
  explore: text('<policy.yaml> file with a section exploration; needs --state').optional(),
  rows: text(
    '<address> log of what is shown, as rows to train on: a folder or s3:// prefix; needs --state',
  ).optional(),
  rowsSeconds: decimal(
    { from: 1, upTo: 86_400 },
    '<seconds> seconds after which a file of rows is delivered there',
  ).default(300),
  rowsGib: decimal(
    { above: 0, upTo: 1_048_576 },
    '<size> size limit of the rows there in GiB; the oldest are removed',
  ).default(16),
  state: text(
    '<folder> folder of this server alone: takes /v1/adapt and /v1/adgroups, and keeps evidence, and rows until they are delivered',
  ).optional(),
  redis: text('<url> evidence of what was shown in Redis, which several servers share').optional(),
  ...METRICS_FIELDS,
});

export const WorkRequestSchema = z.strictObject({
  redis: REQUESTS.workers.shape.redis,
  prefix: text('<prefix> the queue prefix of the config').default(QUEUE_PREFIX_DEFAULT),
  name: text('<name> the name that results carry; host and process by default').optional(),
  device: DEVICE.default('auto'),
  gpuIndex: integer(
    0,
    GPU_INDEX_MAX,
    '<index> the one GPU to use, as nvidia-smi counts',
  ).optional(),
  storeAllow: text(
    '<addresses> folders and s3://BUCKET/PREFIX in which stores of jobs may lie, separated by commas; the working folder by default',
    { variable: 'QIANMO_STORE_ALLOW' },
  ).optional(),
  endpointAllow: text(
    '<urls> S3 endpoints that jobs may name, separated by commas, beside those of the AWS variables',
    { variable: 'QIANMO_ENDPOINT_ALLOW' },
  ).optional(),
  log: text('<file> file for the events of this worker, one JSON object per line').optional(),
});
