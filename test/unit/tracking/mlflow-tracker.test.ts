/** A run in a server that refuses what MLflow refuses. */

import { beforeEach, expect, test } from 'vitest';
import { mlflowEntryOf, MlflowTracker } from '../../../coordinator/tracking/mlflow-tracker.js';
import { mlflowServerOf } from '../../../coordinator/tracking/open-tracking.js';
import { systemClock } from '../../../shared/base/clock.js';
import type { CallEnding } from '../../../coordinator/tracking/tracker-feed.js';
import { RunConfigSchema } from '../../../shared/config/run-config.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { smallRun } from '../../fixtures/commands/small-run.js';
import { openedForEach } from '../../fixtures/opened.js';
import { mlflowReceiver } from '../../fixtures/tracking/mlflow-receiver.js';
import { outerStep, runFailed } from '../../fixtures/tracking/told-events.js';

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
