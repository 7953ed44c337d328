/**
 * A run in MLflow: params from the config, metrics from the events, tags for what identifies it. A resumed run,
 * and an evaluation, go on in the same one.
 */

import { z } from 'zod';
import type { Clock } from '../../shared/base/clock.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { StampedEvent } from '../../shared/events/run-events.js';
import { scalarsOf, type Scalar } from './scalars.js';
import {
  TrackerRefusal,
  type CallEnding,
  type EventTracker,
  type TrackedRun,
  type TrackingMemory,
} from './tracker.js';
import {
  MlflowClient,
  type KeyedValue,
  type MlflowMetric,
  type MlflowServer,
} from './mlflow-client.js';
import { isRecord } from '../../shared/base/canonical-json.js';
import { addressWithoutSecret } from '../../shared/base/redacted-address.js';

export const MlflowFactSchema = z.strictObject({
  url: z.string(),
  /** Null while the run is made: a killed call, or a lost answer, may leave one that nobody knows. */
  runId: z.string().nullable(),
  /** A tag that finds such a run. */
  key: z.string().optional(),
});
type MlflowFact = z.infer<typeof MlflowFactSchema>;

interface MlflowOptions {
  readonly server: MlflowServer;
  readonly experiment: string;
  readonly tracked: TrackedRun;
  readonly config: RunConfig;
  /** The version of the package. */
  readonly version: string;
  readonly memory: TrackingMemory<MlflowFact>;
  /** The call begins the run anew, and does not go on with an earlier one. */
  readonly isFresh: boolean;
  readonly clock: Clock;
  /** Names the run that this call makes, if it makes one. */
  readonly nonce: string;
}

/** Entries of one request; MLflow refuses more. */
const METRIC_COUNT_MAX = 1_000;

const STATUS_BY_ENDING = { finished: 'FINISHED', failed: 'FAILED', interrupted: 'KILLED' } as const;

export class MlflowTracker implements EventTracker {
  readonly name = 'MLflow';
  readonly address: string;
  readonly intervalMs = 1_000;
  readonly #options: MlflowOptions;
  readonly #client: MlflowClient;
  #runId: string | null = null;
  /** The key of a run that an attempt began to make. */
  #key: string | null = null;
  /** The run is this call's to end: it made it, or trains it. */
  #isOwn = false;
  /** Batches of params that are not written yet. */
  #params: KeyedValue[][] = [];

  constructor(options: MlflowOptions) {
    this.#options = options;
    this.address = options.server.url;
    this.#client = new MlflowClient(options.server, options.clock);
  }

  async take(events: readonly StampedEvent[], signal: AbortSignal): Promise<void> {
    const metrics = events.flatMap((event) =>
      scalarsOf(event).map((each) => this.#metric(each, event)),
    );
    const tags = this.#tagsOf(events);
    // A call that is refused makes no run.
    const isWorthARun = metrics.length > 0 || events.some(({ kind }) => kind !== 'run-failed');
    if (this.#runId === null && !isWorthARun) return;
    const runId = await this.#openedRun(events[0]?.epochMs ?? 0, signal);
    for (let [params] = this.#params; params !== undefined; [params] = this.#params) {
      await this.#client.logBatch({ run_id: runId, params }, signal).catch(passRefusal);
      this.#params.shift();
    }
    if (tags.length > 0) await this.#client.logBatch({ run_id: runId, tags }, signal);
    for (let first = 0; first < metrics.length; first += METRIC_COUNT_MAX)
      await this.#client.logBatch(
        { run_id: runId, metrics: metrics.slice(first, first + METRIC_COUNT_MAX) },
        signal,
      );
  }

  async end(ending: CallEnding, signal: AbortSignal): Promise<void> {
    if (this.#runId === null || !this.#isOwn) return;
    const end = { status: STATUS_BY_ENDING[ending], end_time: this.#options.clock.epochMs() };
    await this.#client.updateRun({ run_id: this.#runId, ...end }, signal);
  }

  async #openedRun(startedMs: number, signal: AbortSignal): Promise<string> {
    if (this.#runId !== null) return this.#runId;
    const { memory, isFresh, server, tracked, nonce } = this.#options;
    const kept = isFresh ? null : await memory.recall();
    const known = kept?.url === server.url ? kept : null;
    const isTraining = tracked.call !== 'evaluate';
    if (
      typeof known?.runId === 'string' &&
      (await this.#continued(known.runId, isTraining, signal))
    ) {
      this.#isOwn = isTraining;
      this.#runId = known.runId;
      return known.runId;
    }
    const begun = this.#key ?? (known?.runId === null ? (known.key ?? null) : null);
    const key = begun ?? nonce;
    this.#key = key;
    if (begun === null) await memory.keep({ url: server.url, runId: null, key });
    const runId = await this.#madeRun({ startedMs, key, isBegun: begun !== null }, signal);
    await memory.keep({ url: server.url, runId, key });
    this.#isOwn = true;
    this.#params = paramBatchesOf(this.#options.config);
    this.#runId = runId;
    return runId;
  }

  /** False if somebody deleted the run there: its pages keep such a run, which refuses what is written to it. */
  async #continued(runId: string, isTraining: boolean, signal: AbortSignal): Promise<boolean> {
    const version = [{ key: 'qianmo.version', value: this.#options.version }];
    try {
      if (isTraining)
        return await this.#client.updateRun({ run_id: runId, status: 'RUNNING' }, signal);
      await this.#client.logBatch({ run_id: runId, tags: version }, signal);
      return true;
    } catch (error) {
      if (error instanceof TrackerRefusal) return false;
      throw error;
    }
  }

  /** The run of an earlier attempt, if that came so far. */
  async #madeRun(
    { startedMs, key, isBegun }: { startedMs: number; key: string; isBegun: boolean },
    signal: AbortSignal,
  ): Promise<string> {
    const { experiment, tracked, version } = this.#options;
    const experimentId = await this.#client.experimentNamed(experiment, signal);
    const tag = { key: 'qianmo.key', value: key };
    const made = isBegun ? await this.#client.runTagged(experimentId, tag, signal) : null;
    if (made !== null) return made;
    return this.#client.createRun(
      {
        experiment_id: experimentId,
        run_name: tracked.run,
        start_time: startedMs,
        tags: [
          { key: 'mlflow.runName', value: tracked.run },
          { key: 'mlflow.source.name', value: `qianmo ${tracked.call}` },
          { key: 'qianmo.version', value: version },
          { key: 'qianmo.run', value: tracked.run },
          { key: 'qianmo.output', value: tracked.output },
          tag,
        ],
      },
      signal,
    );
  }

  /** The global arm of an evaluation is a run of its own. */
  #metric({ name, value, epochMs, outerStep }: Scalar, { runId }: StampedEvent): MlflowMetric {
    const { run } = this.#options.tracked;
    const prefix = runId === undefined || runId === run ? '' : `${runId}/`;
    return {
      key: `${prefix}${name}`,
      value: numberOrName(value),
      timestamp: epochMs,
      step: outerStep,
    };
  }

  #tagsOf(events: readonly StampedEvent[]): KeyedValue[] {
    const { run } = this.#options.tracked;
    const tags = events
      .filter(({ runId }) => runId === undefined || runId === run)
      .flatMap((event) => tagsOf(event));
    return [...new Map(tags.map((tag) => [tag.key, tag])).values()];
  }
}

function tagsOf(event: StampedEvent): KeyedValue[] {
  switch (event.kind) {
    case 'fingerprint-taken':
    case 'fingerprint-changed':
      return [{ key: 'qianmo.fingerprint', value: event.fingerprint }];
    case 'run-finished':
      return [
        { key: 'qianmo.checkpoint', value: event.address },
        { key: 'qianmo.digest', value: event.digest },
      ];
    case 'report-written':
      return [{ key: 'qianmo.report', value: event.address }];
    case 'run-failed':
      return [{ key: 'qianmo.failure', value: event.reason.slice(0, 5_000) }];
    default:
      return [];
  }
}

/** Older servers refuse long values: a run without some of its params is better than none. */
function passRefusal(error: unknown): void {
  if (!(error instanceof TrackerRefusal)) throw error;
}

function numberOrName(value: number): MlflowMetric['value'] {
  if (Number.isFinite(value)) return value;
  if (Number.isNaN(value)) return 'NaN';
  return value > 0 ? 'Infinity' : '-Infinity';
}

/** MLflow refuses longer ones, and more of them in one request. */
const KEY_LENGTH_MAX = 250;
const VALUE_LENGTH_MAX = 6_000;
const PARAM_COUNT_MAX = 100;

/** In the order of the config; a list is one param, as JSON. The trackers themselves are left out. */
function paramBatchesOf({ tracking: _tracking, ...config }: RunConfig): KeyedValue[][] {
  const redisUrl = addressWithoutSecret(config.queue.redisUrl);
  const params = paramsOf({ ...config, queue: { ...config.queue, redisUrl } }, '');
  const batches: KeyedValue[][] = [];
  for (let first = 0; first < params.length; first += PARAM_COUNT_MAX)
    batches.push(params.slice(first, first + PARAM_COUNT_MAX));
  return batches;
}

function paramsOf(value: unknown, path: string): KeyedValue[] {
  if (value === undefined) return [];
  if (isRecord(value))
    return Object.entries(value).flatMap(([name, field]) =>
      paramsOf(field, path === '' ? name : `${path}.${name}`),
    );
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const key = path.replace(/[^\w. :/-]/g, '_').slice(0, KEY_LENGTH_MAX);
  return [{ key, value: text.slice(0, VALUE_LENGTH_MAX) }];
}
