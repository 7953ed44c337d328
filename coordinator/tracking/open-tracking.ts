/**
 * The trackers of one call, fed from its events. A tracker can fail or hang: the call goes on, and its end waits for all
 * of them together for a bounded time.
 */

import type { Clock } from '../../shared/base/clock.js';
import { isInterruptionKind, QianmoError } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { RunEvent, StampedEventSink } from '../../shared/events/run-events.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { mlflowEntryOf, MlflowTracker } from './mlflow-tracker.js';
import { TrackerFeed, type CallEnding } from './tracker-feed.js';
import { NoticeWatch, webhookKeyOf, webhookTracker, type Notice } from './webhook.js';

interface TrackingOrder {
  readonly call: string;
  readonly config: RunConfig;
  /** The call begins the run anew, and does not go on with an earlier one. */
  readonly isFresh: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

interface Surroundings {
  readonly clock: Clock;
  readonly environment: Environment;
  readonly version: string;
}

/** The trackers before the call has events. @param tell gets events of the trackers themselves. */
type StartTracking = (tell: (event: RunEvent) => void) => StartedTracking;

interface StartedTracking {
  readonly sink: StampedEventSink;
  /** Resolves in bounded time. */
  close(): Promise<void>;
}

const STALL_CHECK_INTERVAL_MS = 5_000;

/** @throws QianmoError `usage` if an address or a secret is missing: before the call has begun. */
export function openTracking(
  { call, config, isFresh }: TrackingOrder,
  { mlflow, webhook }: NonNullable<RunConfig['tracking']>,
  { clock, environment, version }: Surroundings,
): StartTracking {
  const { run, output, storage } = config;
  const tracked = { call, run, output };
  const server = mlflow === undefined ? null : mlflowServerOf(mlflow.url, environment);
  const url = webhook === undefined ? null : webhookUrlIn(environment);
  const secret = environment['QIANMO_WEBHOOK_SECRET']?.trim() ?? '';
  const key = secret === '' ? null : webhookKeyOf(secret);
  return (tell) => {
    const options = { clock, onTrouble: tell };
    const store = openObjectStore(output, s3OptionsOf(storage));
    const { experiment = '' } = mlflow ?? {};
    const metrics =
      server === null
        ? null
        : new TrackerFeed(
            new MlflowTracker({
              ...{ server, experiment, tracked, config, version, store, isFresh, clock },
            }),
            options,
          );
    const notices =
      url === null
        ? null
        : new TrackerFeed(webhookTracker({ url, key, tracked, clock, onSent: tell }), options);
    const watch = new NoticeWatch();
    const ended = new AbortController();
    let ending: CallEnding = 'finished';
    const send = (notice: Notice | null): void => {
      if (notice !== null && webhook?.on.includes(notice.notice)) notices?.feed(notice);
    };
    const lookForStalls = async (): Promise<void> => {
      for (;;) {
        await clock.sleep(STALL_CHECK_INTERVAL_MS, ended.signal);
        if (ended.signal.aborted) return;
        send(watch.stalledAt(clock.epochMs()));
      }
    };
    if (notices !== null) void lookForStalls();
    return {
      sink: (event) => {
        if (event.kind === 'run-failed')
          ending = isInterruptionKind(event.failure) ? 'interrupted' : 'failed';
        else if (event.kind === 'run-finished') ending = 'finished';
        if (notices !== null) send(watch.admit(event));
        const entry = metrics === null ? null : mlflowEntryOf(event, run);
        if (entry !== null) metrics?.feed(entry);
      },
      close: async () => {
        ended.abort();
        if (ending === 'finished') send(watch.finishedAt(clock.epochMs()));
        await Promise.all([metrics?.close(ending), notices?.close(ending)]);
      },
    };
  };
}

export function mlflowServerOf(
  configured: string | undefined,
  environment: Environment,
): ConstructorParameters<typeof MlflowTracker>[0]['server'] {
  const url = configured ?? environment['MLFLOW_TRACKING_URI'];
  if (!isHttp(url))
    throw missingError('tracking.mlflow.url', 'http(s)://HOST', 'MLFLOW_TRACKING_URI');
  const token = environment['MLFLOW_TRACKING_TOKEN']?.trim() ?? '';
  const user = environment['MLFLOW_TRACKING_USERNAME'] ?? '';
  const password = environment['MLFLOW_TRACKING_PASSWORD']?.trim() ?? '';
  if (token === '' && user !== '' && password === '')
    throw missingError('tracking.mlflow', 'the password of the user', 'MLFLOW_TRACKING_PASSWORD');
  const basic = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  const authorization = token !== '' ? `Bearer ${token}` : user === '' ? null : basic;
  return { url: url.replace(/\/+$/, ''), authorization };
}

function webhookUrlIn(environment: Environment): string {
  const url = environment['QIANMO_WEBHOOK_URL']?.trim();
  if (!isHttp(url))
    throw missingError('tracking.webhook', 'http(s)://HOST/PATH', 'QIANMO_WEBHOOK_URL');
  return url;
}

function isHttp(url: string | undefined): url is string {
  return url !== undefined && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
}

/** The value is not shown: it may be a secret in the wrong place. */
function missingError(where: string, expected: string, variable: string): QianmoError {
  const cure = `set the variable ${variable}`;
  const what = 'a tracker is not completely described';
  return new QianmoError({ kind: 'usage', what, where, expected, cure });
}
