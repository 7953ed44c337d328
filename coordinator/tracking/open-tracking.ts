/**
 * The trackers of one call, fed from its events. A tracker can fail or hang: the call goes on, and its end waits
 * for all of them together no longer than the config says.
 */

import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { Clock } from '../../shared/base/clock.js';
import { isInterruptionKind } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { TrackingConfig } from '../../shared/config/tracking-config.js';
import type {
  EventKind,
  RunEvent,
  StampedEvent,
  StampedEventSink,
} from '../../shared/events/run-events.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { MlflowFactSchema, MlflowTracker } from './mlflow-tracker.js';
import { TensorBoardTracker } from './tensorboard-tracker.js';
import { type CallEnding, type EventTracker, type TrackedRun, TrackingMemory } from './tracker.js';
import { TrackerFeed } from './tracker-feed.js';
import { freshNonce } from '../../shared/base/nonce.js';
import { mlflowServerOf, webhookSecretsOf } from './tracking-secrets.js';
import { NoticeWatch, type Notice, ToldNoticesSchema, WebhookTracker } from './webhook-tracker.js';

export interface TrackingOrder {
  readonly call: string;
  readonly config: RunConfig;
  /** The call begins the run anew, and does not go on with an earlier one. */
  readonly isFresh: boolean;
}

interface Surroundings {
  readonly clock: Clock;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** The trackers before the call has events. */
interface OpenedTracking {
  /** @param tell hears of the trackers themselves. */
  start(tell: (event: RunEvent) => void): StartedTracking;
}

export interface StartedTracking {
  readonly sink: StampedEventSink;
  /** Resolves in bounded time. */
  close(): Promise<void>;
}

/** Events that trackers read. The others do not take their places in the queue. */
const TRACKED: ReadonlySet<EventKind> = new Set([
  'outer-step',
  'run-validated',
  'arm-evaluated',
  'fingerprint-taken',
  'fingerprint-changed',
  'run-finished',
  'report-written',
  'run-failed',
]);

const STALL_CHECK_INTERVAL_MS = 5_000;
const NOTICE_ATTEMPTS_MAX = 6;

/** @throws QianmoError `usage` or `environment` if an address or a secret is missing: before the call has begun. */
export async function openTracking(
  { call, config, isFresh }: TrackingOrder,
  tracking: TrackingConfig,
  surroundings: Surroundings,
): Promise<OpenedTracking> {
  const { clock, environment } = surroundings;
  const { run, output, storage } = config;
  const tracked: TrackedRun = { call, run, output };
  const store = openObjectStore(output, s3OptionsOf(storage));
  const trackers: EventTracker[] = [];
  if (tracking.tensorboard !== undefined) {
    const own = `${output.replace(/^file:\/\//, '').replace(/\/+$/, '')}/tensorboard`;
    trackers.push(new TensorBoardTracker(tracking.tensorboard.folder ?? own, tracked));
  }
  if (tracking.mlflow !== undefined) {
    const server = await mlflowServerOf(tracking.mlflow, environment);
    const memory = new TrackingMemory(store, 'mlflow', MlflowFactSchema);
    const { experiment } = tracking.mlflow;
    const version = await versionOfPackage();
    trackers.push(
      new MlflowTracker({
        ...{ server, experiment, tracked, config, version, memory, isFresh, clock },
        nonce: freshNonce(),
      }),
    );
  }
  const { webhook } = tracking;
  const secrets = webhook === undefined ? null : await webhookSecretsOf(webhook, environment);
  const closingMs = tracking.closingSeconds * 1_000;
  return {
    start: (tell) => {
      const shared = { clock, onTrouble: tell };
      const feeds = trackers.map(
        (tracker) => new TrackerFeed(tracker, { ...shared, attemptsMax: Infinity }),
      );
      const memory =
        call === 'train' ? new TrackingMemory(store, 'notices', ToldNoticesSchema) : null;
      const notices =
        webhook === undefined || secrets === null
          ? null
          : new TrackerFeed<Notice>(
              new WebhookTracker({
                ...secrets,
                ...{ tracked, clock, memory, isFresh },
                onSent: tell,
              }),
              { ...shared, attemptsMax: NOTICE_ATTEMPTS_MAX },
            );
      return startedTracking({ feeds, notices, told: webhook?.on ?? [], clock, closingMs });
    },
  };
}

interface Feeds {
  readonly feeds: readonly TrackerFeed<StampedEvent>[];
  readonly notices: TrackerFeed<Notice> | null;
  readonly told: readonly string[];
  readonly clock: Clock;
  readonly closingMs: number;
}

function startedTracking({ feeds, notices, told, clock, closingMs }: Feeds): StartedTracking {
  const watch = new NoticeWatch();
  const ended = new AbortController();
  let ending: CallEnding = 'finished';
  const tell = (notice: Notice | null): void => {
    if (notice !== null && told.includes(notice.notice)) notices?.feed(notice);
  };
  const lookForStalls = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(STALL_CHECK_INTERVAL_MS, ended.signal);
      if (ended.signal.aborted) return;
      tell(watch.stalledAt(clock.epochMs()));
    }
  };
  if (told.includes('stalled')) void lookForStalls();
  return {
    sink: (event) => {
      if (event.kind === 'run-failed')
        ending = isInterruptionKind(event.failure) ? 'interrupted' : 'failed';
      else if (event.kind === 'run-finished') ending = 'finished';
      if (notices !== null) tell(watch.admit(event));
      if (TRACKED.has(event.kind)) for (const feed of feeds) feed.feed(event);
    },
    close: async () => {
      ended.abort();
      tell(watch.endedAt(clock.epochMs(), ending));
      const all = notices === null ? feeds : [...feeds, notices];
      await Promise.all(all.map((feed) => feed.close(ending, closingMs)));
    },
  };
}

const PackageSchema = z.object({ version: z.string() });

/** From the sources and from `dist/` alike: the first package.json above this file. */
async function versionOfPackage(): Promise<string> {
  for (
    let folder = new URL('.', import.meta.url);
    folder.pathname !== '/';
    folder = new URL('..', folder)
  ) {
    const text = await readFile(new URL('package.json', folder), 'utf8').catch(() => null);
    if (text !== null) return PackageSchema.parse(JSON.parse(text)).version;
  }
  return 'unknown';
}
