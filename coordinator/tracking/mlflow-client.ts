/** The part of MLflow's REST interface that a run needs (mlflow.org, REST API 2.0). */

import { z } from 'zod';
import type { Clock } from '../../shared/base/clock.js';
import { exchanged, type HttpAnswer } from '../../shared/base/http-exchange.js';
import { TrackerRefusal } from './tracker.js';

export interface MlflowServer {
  /** Without a slash at its end. */
  readonly url: string;
  /** The header `Authorization`; null where the server asks for none. */
  readonly authorization: string | null;
}

export interface KeyedValue {
  readonly key: string;
  readonly value: string;
}

export interface MlflowMetric {
  readonly key: string;
  /** MLflow refuses null, and takes the names of numbers that JSON has no word for. */
  readonly value: number | 'NaN' | 'Infinity' | '-Infinity';
  readonly timestamp: number;
  readonly step: number;
}

type MlflowStatus = 'RUNNING' | 'FINISHED' | 'FAILED' | 'KILLED';

const ErrorSchema = z.object({ error_code: z.string().optional(), message: z.string().optional() });
const ExperimentSchema = z.object({ experiment: z.object({ experiment_id: z.string() }) });
const CreatedExperimentSchema = z.object({ experiment_id: z.string() });
const RunSchema = z.object({ run: z.object({ info: z.object({ run_id: z.string() }) }) });
const FoundRunsSchema = z.object({
  runs: z.array(z.object({ info: z.object({ run_id: z.string() }) })).default([]),
});

/** Characters of a server's message that are shown. */
const MESSAGE_LENGTH_MAX = 200;
/** A client that is told so may try again. */
const RETRIED_STATUSES: ReadonlySet<number> = new Set([401, 403, 408, 425, 429]);

export class MlflowClient {
  readonly #server: MlflowServer;
  readonly #clock: Clock;

  constructor(server: MlflowServer, clock: Clock) {
    this.#server = server;
    this.#clock = clock;
  }

  /** The id of the experiment, which is made when it is missing. */
  async experimentNamed(name: string, signal: AbortSignal): Promise<string> {
    const query = `?experiment_name=${encodeURIComponent(name)}`;
    const found = await this.#ask('experiments/get-by-name', { signal, query });
    if (found.status === 200)
      return ExperimentSchema.parse(JSON.parse(found.text)).experiment.experiment_id;
    if (errorOf(found).error_code !== 'RESOURCE_DOES_NOT_EXIST') throw failureOf(found);
    const made = await this.#ask('experiments/create', { signal, body: { name } });
    // Another run made it meanwhile: the next attempt finds it.
    return CreatedExperimentSchema.parse(JSON.parse(demandSuccess(made))).experiment_id;
  }

  async createRun(
    run: { experiment_id: string; run_name: string; start_time: number; tags: KeyedValue[] },
    signal: AbortSignal,
  ): Promise<string> {
    const answer = await this.#ask('runs/create', { signal, body: run });
    return RunSchema.parse(JSON.parse(demandSuccess(answer))).run.info.run_id;
  }

  /** The run of the experiment that has the tag; null if there is none. */
  async runTagged(
    experimentId: string,
    { key, value }: KeyedValue,
    signal: AbortSignal,
  ): Promise<string | null> {
    const body = {
      experiment_ids: [experimentId],
      filter: `tags.\`${key}\` = '${value}'`,
      max_results: 1,
    };
    const found = await this.#ask('runs/search', { signal, body });
    return FoundRunsSchema.parse(JSON.parse(demandSuccess(found))).runs[0]?.info.run_id ?? null;
  }

  /** False if the server has no such run. */
  async updateRun(
    update: { run_id: string; status: MlflowStatus; end_time?: number },
    signal: AbortSignal,
  ): Promise<boolean> {
    const answer = await this.#ask('runs/update', { signal, body: update });
    if (errorOf(answer).error_code === 'RESOURCE_DOES_NOT_EXIST') return false;
    demandSuccess(answer);
    return true;
  }

  /** At most 1,000 entries: as many metrics, 100 params and 100 tags. */
  async logBatch(
    batch: { run_id: string; metrics?: MlflowMetric[]; params?: KeyedValue[]; tags?: KeyedValue[] },
    signal: AbortSignal,
  ): Promise<void> {
    demandSuccess(await this.#ask('runs/log-batch', { signal, body: batch }));
  }

  #ask(
    path: string,
    { signal, query = '', body }: { signal: AbortSignal; query?: string; body?: object },
  ): Promise<HttpAnswer> {
    const { url, authorization } = this.#server;
    return exchanged(
      {
        method: body === undefined ? 'GET' : 'POST',
        url: `${url}/api/2.0/mlflow/${path}${query}`,
        headers: {
          'content-type': 'application/json',
          ...(authorization === null ? {} : { authorization }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      },
      { clock: this.#clock, signal },
    );
  }
}

function demandSuccess(answer: HttpAnswer): string {
  if (answer.status !== 200) throw failureOf(answer);
  return answer.text;
}

/** An error of the request is final; one of the server, or of its rights, may pass. */
function failureOf(answer: HttpAnswer): Error {
  const { error_code: code, message } = errorOf(answer);
  const text = [`status ${answer.status}`, code, message?.slice(0, MESSAGE_LENGTH_MAX)]
    .filter((part) => part !== undefined && part !== '')
    .join(', ');
  const isFinal = answer.status < 500 && !RETRIED_STATUSES.has(answer.status);
  return isFinal && code !== 'RESOURCE_ALREADY_EXISTS' ? new TrackerRefusal(text) : new Error(text);
}

function errorOf({ status, text }: HttpAnswer): z.output<typeof ErrorSchema> {
  if (status === 200) return {};
  try {
    return ErrorSchema.safeParse(JSON.parse(text)).data ?? {};
  } catch {
    return {};
  }
}
