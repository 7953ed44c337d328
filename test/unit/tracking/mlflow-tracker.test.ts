/** A run in a server that refuses what MLflow refuses. */

import { beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { mlflowEntryOf, MlflowTracker } from '../../../coordinator/tracking/mlflow-tracker.js';
import { mlflowServerOf } from '../../../coordinator/tracking/open-tracking.js';
import type { CallEnding } from '../../../coordinator/tracking/tracker-feed.js';
import { systemClock } from '../../../shared/base/clock.js';
import { RunConfigSchema } from '../../../shared/config/run-config.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { smallRun } from '../../fixtures/commands/small-run.js';
import { openedForEach } from '../../fixtures/opened.js';
import {
  httpReceiver,
  type HttpReceiver,
  type ReceivedRequest,
} from '../../fixtures/tracking/http-receiver.js';
import { outerStep, runFailed } from '../../fixtures/tracking/told-events.js';

// MLflow 3.17 refuses long batches, null and other params.
const keyed = z.array(z.object({ key: z.string().max(250), value: z.string().max(6_000) }));
const BatchSchema = z.object({
  run_id: z.string(),
  metrics: z
    .array(
      z.object({
        key: z.string().regex(/^[\w. :/-]{1,250}$/),
        value: z.union([z.number(), z.enum(['NaN', 'Infinity', '-Infinity'])]),
        timestamp: z.int(),
        step: z.int(),
      }),
    )
    .max(1_000)
    .default([]),
  params: keyed.max(100).default([]),
  tags: keyed.max(100).default([]),
});

interface ReceivedRun {
  readonly name: string;
  status: string;
  /** As the button of its pages deletes a run: it is kept, and can be restored. */
  isDeleted?: boolean;
  readonly metrics: z.output<typeof BatchSchema>['metrics'];
  readonly params: Record<string, string>;
  readonly tags: Record<string, string>;
}

interface MlflowReceiver extends HttpReceiver {
  readonly runs: Map<string, ReceivedRun>;
}

const refusal = (status: number, error_code: string, message = '') => ({
  status,
  body: { error_code, message },
});
const invalid = (message: string) => refusal(400, 'INVALID_PARAMETER_VALUE', message);
const inactive = invalid("The run must be in the 'active' state. Current state is deleted.");

async function mlflowReceiver(): Promise<MlflowReceiver> {
  const experiments = new Map<string, string>();
  const runs = new Map<string, ReceivedRun>();
  const answer = ({ path, body }: ReceivedRequest) => {
    const call = new URL(path, 'http://host');
    const value: unknown = body === '' ? {} : JSON.parse(body);
    switch (call.pathname.replace('/api/2.0/mlflow/', '')) {
      case 'experiments/get-by-name': {
        const id = experiments.get(call.searchParams.get('experiment_name') ?? '');
        if (id === undefined) return refusal(404, 'RESOURCE_DOES_NOT_EXIST');
        return { status: 200, body: { experiment: { experiment_id: id } } };
      }
      case 'experiments/create': {
        const { name } = z.object({ name: z.string() }).parse(value);
        if (experiments.has(name)) return refusal(400, 'RESOURCE_ALREADY_EXISTS');
        experiments.set(name, String(experiments.size + 1));
        return { status: 200, body: { experiment_id: experiments.get(name) } };
      }
      case 'runs/create': {
        const { run_name: name, tags } = z
          .object({ run_name: z.string(), tags: keyed })
          .parse(value);
        const run_id = `run${runs.size + 1}`;
        const kept = Object.fromEntries(tags.map((tag) => [tag.key, tag.value]));
        runs.set(run_id, { name, status: 'RUNNING', metrics: [], params: {}, tags: kept });
        return { status: 200, body: { run: { info: { run_id } } } };
      }
      case 'runs/update': {
        const { run_id, status } = z
          .object({ run_id: z.string(), status: z.string() })
          .parse(value);
        const run = runs.get(run_id);
        if (run === undefined) return refusal(404, 'RESOURCE_DOES_NOT_EXIST');
        if (run.isDeleted === true) return inactive;
        run.status = status;
        return { status: 200 };
      }
      case 'runs/log-batch': {
        const parsed = BatchSchema.safeParse(value);
        if (!parsed.success) return invalid(parsed.error.message);
        const { run_id, metrics, params, tags } = parsed.data;
        if (metrics.length + params.length + tags.length > 1_000) return invalid('too many');
        const run = runs.get(run_id);
        if (run === undefined) return refusal(404, 'RESOURCE_DOES_NOT_EXIST');
        if (run.isDeleted === true) return inactive;
        for (const { key, value: next } of params)
          if ((run.params[key] ?? next) !== next) return invalid(`changed param ${key}`);
        run.metrics.push(...metrics);
        for (const { key, value: next } of params) run.params[key] = next;
        for (const { key, value: next } of tags) run.tags[key] = next;
        return { status: 200 };
      }
      default:
        return refusal(404, 'ENDPOINT_NOT_FOUND');
    }
  };
  return { ...(await httpReceiver(answer)), runs };
}

const receiver = openedForEach(mlflowReceiver);
let store: MemoryObjectStore;
const { signal } = new AbortController();
beforeEach(() => {
  store = new MemoryObjectStore();
});

const config = RunConfigSchema.parse({
  ...smallRun('r', 10),
  queue: { redisUrl: 'redis://user:s3cret@queue:6379' },
  tracking: { mlflow: {} },
});

const trackerOf = (call = 'train', isFresh = false) => {
  const tracker = new MlflowTracker({
    ...{ server: { url: receiver.url, authorization: 'Bearer t0ken' }, experiment: 'ads' },
    ...{ tracked: { call, run: 'r', output: 'out' }, config, version: '1.2.3', isFresh, store },
    clock: systemClock,
  });
  return {
    take: (events: readonly StampedEvent[]) =>
      tracker.take(
        events.flatMap((event) => mlflowEntryOf(event, 'r') ?? []),
        signal,
      ),
    end: (ending: CallEnding) => tracker.end(ending, signal),
  };
};
const only = () => [...receiver.runs.values()][0];

test('params come from the config, without secrets; metrics and tags from the events', async () => {
  const tracker = trackerOf();
  await tracker.take([outerStep(1), outerStep(2, Number.NaN), outerStep(3, Infinity)]);
  const ofRun = { runId: 'r', epochMs: 5 };
  await tracker.take([
    { kind: 'fingerprint-taken', fingerprint: 'cpu-avx2-01234567', fromWorker: 'w', ...ofRun },
    { kind: 'run-finished', outerStep: 10, address: 'file:///c', digest: 'abc', ...ofRun },
    { kind: 'report-written', address: 'out/report.html', ...ofRun },
  ]);
  await tracker.end('finished');
  const run = only();
  expect(run).toMatchObject({
    ...{ name: 'r', status: 'FINISHED' },
    params: { seed: '3', 'method.kind': 'fomaml', 'queue.redisUrl': 'redis://queue:6379' },
    tags: {
      ...{ 'qianmo.version': '1.2.3', 'qianmo.output': 'out', 'qianmo.digest': 'abc' },
      ...{ 'qianmo.fingerprint': 'cpu-avx2-01234567', 'qianmo.report': 'out/report.html' },
    },
  });
  expect(JSON.stringify(run?.params)).not.toMatch(/s3cret|mlflow/);
  const losses = run?.metrics.filter(({ key }) => key === 'loss/query');
  expect(losses?.map(({ value, step }) => [value, step])).toEqual([
    [0.5, 1],
    ['NaN', 2],
    ['Infinity', 3],
  ]);
  expect(receiver.received.every(({ headers }) => headers.authorization === 'Bearer t0ken')).toBe(
    true,
  );
});

test('a resumed training and an evaluation go on in the run; a fresh training does not', async () => {
  const first = trackerOf();
  await first.take([outerStep(1)]);
  await first.end('failed');
  expect(only()?.status).toBe('FAILED');
  const resumed = trackerOf();
  await resumed.take([outerStep(2)]);
  expect(only()?.status).toBe('RUNNING');
  await resumed.end('finished');
  const evaluation = trackerOf('evaluate');
  const arm = { arm: 'meta', segment: null, outerStep: 2, lossPerAdgroup: 0.5, calibration: 1 };
  await evaluation.take([{ kind: 'arm-evaluated', epochMs: 9, ...arm, loss: 0.25, auc: null }]);
  await evaluation.end('interrupted');
  expect(receiver.runs.size).toBe(1);
  expect(only()?.status).toBe('FINISHED');
  expect(
    only()
      ?.metrics.slice(8)
      .map(({ key }) => key),
  ).toEqual([
    ...['evaluation/meta/loss', 'evaluation/meta/loss-per-adgroup', 'evaluation/meta/calibration'],
  ]);
  await trackerOf('train', true).take([outerStep(1)]);
  expect(receiver.runs.size).toBe(2);
});

test('a call that is refused makes no run; a run that was deleted is made again', async () => {
  await trackerOf().take([runFailed('no store')]);
  expect(receiver.runs.size).toBe(0);
  await trackerOf().take([outerStep(1)]);
  receiver.runs.clear();
  await trackerOf().take([outerStep(2)]);
  expect(only()?.metrics.map(({ step }) => step)).toEqual([2, 2, 2, 2]);
});

test('credentials come from the environment, and a server is needed', () => {
  const environment = {
    MLFLOW_TRACKING_URI: 'http://m:5000/',
    ...{ MLFLOW_TRACKING_USERNAME: 'u', MLFLOW_TRACKING_PASSWORD: 'p' },
  };
  const authorization = `Basic ${Buffer.from('u:p').toString('base64')}`;
  expect(mlflowServerOf(undefined, environment)).toEqual({ url: 'http://m:5000', authorization });
  expect(() => mlflowServerOf(undefined, {})).toThrow(/tracking.mlflow.url/);
  const unfinished = { ...environment, MLFLOW_TRACKING_PASSWORD: '' };
  expect(() => mlflowServerOf(undefined, unfinished)).toThrow(/not completely described/);
});
