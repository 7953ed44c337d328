/** A real MLflow server on this machine, and what it says of a run. */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { findFreePort } from '#services/loopback.mjs';
import { z } from 'zod';
import { systemClock } from '../../../shared/base/clock.js';

const START_TIMEOUT_MS = 180_000;
const POLL_INTERVAL_MS = 250;

const PairsSchema = z.array(z.object({ key: z.string(), value: z.string() })).default([]);
const RunsSchema = z.object({
  runs: z
    .array(
      z.object({
        info: z.object({ run_id: z.string(), run_name: z.string(), status: z.string() }),
        data: z.object({ params: PairsSchema, tags: PairsSchema }),
      }),
    )
    .default([]),
});
const HistorySchema = z.object({
  metrics: z
    .array(z.object({ step: z.coerce.number(), value: z.union([z.number(), z.string()]) }))
    .default([]),
});

export interface RealMlflow {
  readonly url: string;
  readonly startSeconds: number;
  runs(experiment: string): Promise<z.output<typeof RunsSchema>['runs']>;
  /** The steps and values of a metric, by step. */
  history(runId: string, metric: string): Promise<(readonly [number, number])[]>;
  stop(): Promise<void>;
}

/** @param folder where it keeps its database and artifacts. */
export async function startMlflow(python: string, folder: string): Promise<RealMlflow> {
  const port = await findFreePort();
  const url = `http://127.0.0.1:${port}`;
  const startedMs = systemClock.monotonicMs();
  const server = spawn(
    python,
    [
      ...[
        '-m',
        'mlflow',
        'server',
        '--host',
        '127.0.0.1',
        '--port',
        String(port),
        '--workers',
        '1',
      ],
      ...['--backend-store-uri', `sqlite:///${join(folder, 'mlflow.db')}`],
      ...['--artifacts-destination', join(folder, 'artifacts')],
    ],
    {
      cwd: folder,
      // Its workers are in its process group, so that all of them end together.
      detached: true,
      stdio: ['ignore', 'ignore', 'inherit'],
      // It would start eight processes for jobs that no run has.
      env: { ...process.env, MLFLOW_SERVER_ENABLE_JOB_EXECUTION: 'false' },
    },
  );
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const end = (): void => {
    if (server.pid !== undefined && server.exitCode === null) process.kill(-server.pid, 'SIGTERM');
  };
  process.once('exit', end);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  const stop = async (): Promise<void> => {
    end();
    await ended;
  };
  while (!(await isHealthy(url))) {
    if (server.exitCode !== null || systemClock.monotonicMs() - startedMs > START_TIMEOUT_MS) {
      await stop();
      throw new Error('MLflow does not start');
    }
    await systemClock.sleep(POLL_INTERVAL_MS);
  }
  const startSeconds = (systemClock.monotonicMs() - startedMs) / 1_000;
  return { url, startSeconds, stop, ...questionsTo(url) };
}

function questionsTo(url: string): Pick<RealMlflow, 'runs' | 'history'> {
  const ask = async (path: string, body?: object): Promise<unknown> => {
    const response = await fetch(`${url}/api/2.0/mlflow/${path}`, {
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
      headers: { 'content-type': 'application/json' },
    });
    return response.json();
  };
  return {
    runs: async (experiment) => {
      const found = await ask(`experiments/get-by-name?experiment_name=${experiment}`);
      const { experiment_id } = z
        .object({ experiment: z.object({ experiment_id: z.string() }) })
        .parse(found).experiment;
      return RunsSchema.parse(await ask('runs/search', { experiment_ids: [experiment_id] })).runs;
    },
    history: async (runId, metric) => {
      const query = `run_id=${runId}&metric_key=${encodeURIComponent(metric)}&max_results=10000`;
      const { metrics } = HistorySchema.parse(await ask(`metrics/get-history?${query}`));
      return metrics
        .map(({ step, value }) => [step, Number(value)] as const)
        .sort((a, b) => a[0] - b[0]);
    },
  };
}

async function isHealthy(url: string): Promise<boolean> {
  return fetch(`${url}/health`).then(
    ({ ok }) => ok,
    () => false,
  );
}
