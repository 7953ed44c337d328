/**
 * A run in MLflow, over the part of its REST interface that a run needs (mlflow.org, REST API 2.0): params from the
 * config, metrics from the events, tags for what identifies it. A resumed run, and an evaluation, go on in the same one.
 */

import { z } from 'zod';
import { pathsIn } from '../../shared/base/canonical-json.js';
import type { Clock } from '../../shared/base/clock.js';
import { exchange, type HttpAnswer } from '../../shared/base/http-exchange.js';
import { addressWithoutSecret } from '../../shared/base/redacted-address.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { RunEventOf, StampedEvent } from '../../shared/events/run-events.js';
import { measuredPart, sizeMeansOf } from '../../shared/events/size-losses.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { TrackerRefusal, type CallEnding, type TrackedRun, type Tracker } from './tracker-feed.js';

interface MlflowServer {
  /** Without a slash at its end. */
  readonly url: string;
  /** The header `Authorization`; null where the server asks for none. */
  readonly authorization: string | null;
}

interface KeyedValue {
  readonly key: string;
  readonly value: string;
}

interface MlflowMetric {
  readonly key: string;
  /** MLflow refuses null, and takes the names of numbers that JSON has no word for. */
  readonly value: number | 'NaN' | 'Infinity' | '-Infinity';
  readonly timestamp: number;
  readonly step: number;
}

/** The metrics and tags that follow from an event. */
interface MlflowEntry {
  readonly epochMs: number;
  readonly metrics: readonly MlflowMetric[];
  readonly tags: readonly KeyedValue[];
}

interface MlflowOptions {
  readonly server: MlflowServer;
  readonly experiment: string;
  readonly tracked: TrackedRun;
  readonly config: RunConfig;
  readonly version: string;
  /** The output of the run, which keeps the id of its run in MLflow. */
  readonly store: ObjectStore;
  /** The call begins the run anew, and does not go on with an earlier one. */
  readonly isFresh: boolean;
  readonly clock: Clock;
}

const KEPT_KEY = 'tracking/mlflow.json';
const KEPT_BYTE_COUNT_MAX = 64 * 1024;
const KeptSchema = z.strictObject({ url: z.string(), runId: z.string() });

const ErrorSchema = z.object({ error_code: z.string().optional(), message: z.string().optional() });
const ExperimentSchema = z.object({ experiment: z.object({ experiment_id: z.string() }) });
const CreatedExperimentSchema = z.object({ experiment_id: z.string() });
const RunSchema = z.object({ run: z.object({ info: z.object({ run_id: z.string() }) }) });

/** Bounds that MLflow sets, on one request, a key and a value. */
const METRIC_COUNT_MAX = 1_000;
const PARAM_COUNT_MAX = 100;
const KEY_LENGTH_MAX = 250;
const VALUE_LENGTH_MAX = 6_000;
/** Characters of a server's message that are shown. */
const MESSAGE_LENGTH_MAX = 200;
/** A client that is told so may try again. */
const RETRIED_STATUSES: ReadonlySet<number> = new Set([401, 403, 408, 425, 429]);
const STATUS_BY_ENDING = { finished: 'FINISHED', failed: 'FAILED', interrupted: 'KILLED' } as const;
const FAILURE_TAG = 'qianmo.failure';

export class MlflowTracker implements Tracker<MlflowEntry> {
  readonly name = 'MLflow';
  readonly address: string;
  readonly #options: MlflowOptions;
  #runId: string | null = null;
  /** The run is this call's to end: it made it, or trains it. */
  #isOwn = false;
  /** Batches of params that are not written yet. */
  #params: KeyedValue[][] = [];

  constructor(options: MlflowOptions) {
    this.#options = options;
    this.address = options.server.url;
  }

  async take(entries: readonly MlflowEntry[], signal: AbortSignal): Promise<void> {
    const metrics = entries.flatMap((entry) => entry.metrics);
    const allTags = entries.flatMap((entry) => entry.tags);
    const tags = [...new Map(allTags.map((tag) => [tag.key, tag])).values()];
    // A call that is refused makes no run.
    const isWorthARun = metrics.length > 0 || tags.some(({ key }) => key !== FAILURE_TAG);
    if (this.#runId === null && !isWorthARun) return;
    const run_id = this.#runId ?? (await this.#openRun(entries[0]?.epochMs ?? 0, signal));
    for (let [params] = this.#params; params !== undefined; [params] = this.#params) {
      // Older servers refuse long values: a run without some of its params is better than none.
      await this.#logBatch({ run_id, params }, signal).catch((error: unknown) => {
        if (!(error instanceof TrackerRefusal)) throw error;
      });
      this.#params.shift();
    }
    if (tags.length > 0) await this.#logBatch({ run_id, tags }, signal);
    for (const some of batchesOf(metrics, METRIC_COUNT_MAX))
      await this.#logBatch({ run_id, metrics: some }, signal);
  }

  async end(ending: CallEnding, signal: AbortSignal): Promise<void> {
    if (this.#runId === null || !this.#isOwn) return;
    const end = { status: STATUS_BY_ENDING[ending], end_time: this.#options.clock.epochMs() };
    await this.#ask('runs/update', { run_id: this.#runId, ...end }, signal);
  }

  async #openRun(startedMs: number, signal: AbortSignal): Promise<string> {
    const { isFresh, tracked } = this.#options;
    const isTraining = tracked.call !== 'evaluate';
    const known = isFresh ? null : await this.#keptRunId();
    if (known !== null && (await this.#continued(known, isTraining, signal))) {
      this.#isOwn = isTraining;
      this.#runId = known;
      return known;
    }
    const runId = await this.#createRun(startedMs, signal);
    const kept = Buffer.from(`${JSON.stringify({ url: this.address, runId })}\n`);
    // Without it, a resumed run is another one in MLflow.
    await this.#options.store.put(KEPT_KEY, kept, { kind: 'always' }).catch(() => undefined);
    this.#isOwn = true;
    this.#params = batchesOf(paramsOf(this.#options.config), PARAM_COUNT_MAX);
    this.#runId = runId;
    return runId;
  }

  /** Null if the output has none for this server that can be read. */
  async #keptRunId(): Promise<string | null> {
    try {
      const stored = await this.#options.store.get(KEPT_KEY, KEPT_BYTE_COUNT_MAX);
      if (stored === null) return null;
      const kept = KeptSchema.parse(JSON.parse(Buffer.from(stored.bytes).toString('utf8')));
      return kept.url === this.address ? kept.runId : null;
    } catch {
      return null;
    }
  }

  /** False if somebody deleted the run there: its pages keep such a run, which refuses what is written to it. */
  async #continued(run_id: string, isTraining: boolean, signal: AbortSignal): Promise<boolean> {
    const version = [{ key: 'qianmo.version', value: this.#options.version }];
    try {
      if (isTraining) await this.#ask('runs/update', { run_id, status: 'RUNNING' }, signal);
      else await this.#logBatch({ run_id, tags: version }, signal);
      return true;
    } catch (error) {
      if (error instanceof TrackerRefusal) return false;
      throw error;
    }
  }

  async #createRun(start_time: number, signal: AbortSignal): Promise<string> {
    const { tracked, version } = this.#options;
    const run = {
      ...{ experiment_id: await this.#experimentId(signal), run_name: tracked.run, start_time },
      tags: [
        { key: 'mlflow.runName', value: tracked.run },
        { key: 'mlflow.source.name', value: `qianmo ${tracked.call}` },
        { key: 'qianmo.version', value: version },
        { key: 'qianmo.run', value: tracked.run },
        { key: 'qianmo.output', value: tracked.output },
      ],
    };
    const answer = await this.#ask('runs/create', run, signal);
    return RunSchema.parse(JSON.parse(answer)).run.info.run_id;
  }

  /** The experiment is made when it is missing. */
  async #experimentId(signal: AbortSignal): Promise<string> {
    const name = this.#options.experiment;
    const path = `experiments/get-by-name?experiment_name=${encodeURIComponent(name)}`;
    const found = await this.#exchange(path, undefined, signal);
    if (found.status === 200)
      return ExperimentSchema.parse(JSON.parse(found.text)).experiment.experiment_id;
    if (toldErrorOf(found).error_code !== 'RESOURCE_DOES_NOT_EXIST') throw failureOf(found);
    // If another run makes it meanwhile, the next attempt finds it.
    const made = await this.#ask('experiments/create', { name }, signal);
    return CreatedExperimentSchema.parse(JSON.parse(made)).experiment_id;
  }

  async #logBatch(
    batch: {
      run_id: string;
      metrics?: readonly MlflowMetric[];
      params?: KeyedValue[];
      tags?: KeyedValue[];
    },
    signal: AbortSignal,
  ): Promise<void> {
    await this.#ask('runs/log-batch', batch, signal);
  }

  async #ask(path: string, body: object, signal: AbortSignal): Promise<string> {
    const answer = await this.#exchange(path, body, signal);
    if (answer.status !== 200) throw failureOf(answer);
    return answer.text;
  }

  #exchange(path: string, body: object | undefined, signal: AbortSignal): Promise<HttpAnswer> {
    const { server, clock } = this.#options;
    const { url, authorization } = server;
    return exchange(
      {
        method: body === undefined ? 'GET' : 'POST',
        url: `${url}/api/2.0/mlflow/${path}`,
        headers: {
          'content-type': 'application/json',
          ...(authorization === null ? {} : { authorization }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      },
      { clock, signal },
    );
  }
}

/** An error of the request is final; one of the server, or of its rights, may pass. */
function failureOf(answer: HttpAnswer): Error {
  const { error_code: code, message } = toldErrorOf(answer);
  const text = [`status ${answer.status}`, code, message?.slice(0, MESSAGE_LENGTH_MAX)]
    .filter((part) => part !== undefined && part !== '')
    .join(', ');
  const isFinal = answer.status < 500 && !RETRIED_STATUSES.has(answer.status);
  return isFinal && code !== 'RESOURCE_ALREADY_EXISTS' ? new TrackerRefusal(text) : new Error(text);
}

function toldErrorOf({ text }: HttpAnswer): z.output<typeof ErrorSchema> {
  try {
    return ErrorSchema.safeParse(JSON.parse(text)).data ?? {};
  } catch {
    return {};
  }
}

function batchesOf<Item>(items: readonly Item[], countMax: number): Item[][] {
  const count = Math.ceil(items.length / countMax);
  return Array.from({ length: count }, (_, batch) =>
    items.slice(batch * countMax, (batch + 1) * countMax),
  );
}

/** In the order of the config; a list is one param, as JSON. The trackers themselves are left out. */
function paramsOf({ tracking: _tracking, ...config }: RunConfig): KeyedValue[] {
  const redisUrl = addressWithoutSecret(config.queue.redisUrl);
  return pathsIn({ ...config, queue: { ...config.queue, redisUrl } }).map(([path, text]) => ({
    key: path.replace(/[^\w. :/-]/g, '_').slice(0, KEY_LENGTH_MAX),
    value: text.slice(0, VALUE_LENGTH_MAX),
  }));
}

/** Null for an event that says nothing to MLflow. @param run the run of the call; another, as the global arm, is set apart by a prefix */
export function mlflowEntryOf(event: StampedEvent, run: string): MlflowEntry | null {
  const { runId = run, epochMs } = event;
  const prefix = runId === run ? '' : `${runId}/`;
  const metrics = Object.entries(scalarsOf(event)).flatMap(([name, value]): MlflowMetric[] =>
    value === null
      ? []
      : [
          {
            ...{ key: `${prefix}${name}`, value: numberOrName(value) },
            ...{ timestamp: epochMs, step: event.outerStep ?? 0 },
          },
        ],
  );
  const tags = runId === run ? tagsOf(event) : [];
  return metrics.length + tags.length === 0 ? null : { epochMs, metrics, tags };
}

function numberOrName(value: number): MlflowMetric['value'] {
  if (Number.isFinite(value)) return value;
  if (Number.isNaN(value)) return 'NaN';
  return value > 0 ? 'Infinity' : '-Infinity';
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
      return [{ key: FAILURE_TAG, value: event.reason.slice(0, 5_000) }];
    default:
      return [];
  }
}

/** The curves of a run by name; MLflow groups by what stands before the first slash. */
function scalarsOf(event: StampedEvent): Readonly<Record<string, number | null>> {
  switch (event.kind) {
    case 'outer-step':
      return {
        'loss/query': event.queryLoss,
        'loss/query-before-adaptation': event.queryLossBefore ?? null,
        'loss/support': event.supportLoss,
        ...lossesBySizeOf(event),
        'training/gradient-norm': event.gradientNorm,
        'training/tasks-per-second': event.tasksPerSecond,
      };
    case 'run-validated':
      return { 'loss/validation': event.loss };
    case 'arm-evaluated': {
      const { arm, segment, loss, lossPerAdgroup, auc, calibration } = event;
      const place = segment === null ? arm : `${namePart(segment)}/${arm}`;
      return {
        [`evaluation/${place}/loss`]: loss,
        [`evaluation/${place}/loss-per-adgroup`]: lossPerAdgroup,
        [`evaluation/${place}/auc`]: auc,
        [`evaluation/${place}/calibration`]: calibration,
      };
    }
    default:
      return {};
  }
}

/** Bounds the traffic of losses by size: they are sent in every tenth outer step, and where the query loss before adaptation is. */
const SIZED_EVERY_OUTER_STEPS = 10;

function lossesBySizeOf({
  outerStep,
  queryLossBefore,
  bySize,
}: RunEventOf<'outer-step'>): Record<string, number | null> {
  const isSent = queryLossBefore !== undefined || outerStep % SIZED_EVERY_OUTER_STEPS === 0;
  if (bySize === undefined || !isSent) return {};
  const means = sizeMeansOf(bySize, measuredPart(bySize));
  return Object.fromEntries(
    means.flatMap((mean) => {
      const place = `loss-by-size/${namePart(mean.size.replace('>', 'over '))}`;
      return [
        [`${place}/query`, mean.queryLoss],
        [`${place}/query-before-adaptation`, mean.queryLossBefore],
        [`${place}/support`, mean.supportLoss],
      ];
    }),
  );
}

/** Names of metrics have no other characters in MLflow. */
function namePart(text: string): string {
  return text.replace(/[^\w. -]/g, '_').slice(0, 100);
}
