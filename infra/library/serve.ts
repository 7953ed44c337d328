/** Serves rankings from a bundle in this process, which loads no TensorFlow unless it is asked to. */

import { join } from 'node:path';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { accessToken, demandTokenBeyondLoopback } from './serving/access-token.js';
import { parsedBundleAddress } from '../../coordinator/runs/export/bundle-address.js';
import type { CallOptions, Surroundings } from '../../coordinator/runs/call/run-handle.js';
import { objectStoreAt } from '../../coordinator/runs/places.js';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import {
  runEventSink,
  sinksTogether,
  type RunEventSink,
  type StampedEventSink,
} from '../../shared/events/run-events.js';
import type { MetricsSnapshot } from '../../shared/metrics/metric-registry.js';
import { serveMetrics } from '../../shared/metrics/metrics-server.js';
import { readingLoader } from '../../worker/serving/server/bundle-keeper.js';
import { RecordedRequests } from '../../worker/serving/recorded-requests.js';
import { ServingProcesses } from '../../worker/serving/processes/serving-processes.js';
import { SharedRows } from '../../worker/serving/processes/shared-rows.js';
import type { ServingPlace } from '../../worker/serving/server/endpoint.js';
import { rankingEndpoints } from '../../worker/serving/server/endpoints/table.js';
import { warmUp } from '../../worker/serving/server/forms/warm-up.js';
import type { ServedBundle } from '../../worker/serving/server/served-bundle.js';
import type { ScorerChoice } from '../../worker/serving/server/scorer-choice.js';
import type { RequestReport } from '../../worker/serving/server/request-counts.js';
import { RankingServer } from '../../worker/serving/server/wire/ranking-server.js';
import {
  CACHE_GIB_DEFAULT,
  CACHE_GIB_MAX,
  CANARY_SHARE_DEFAULT,
  DEADLINE_MS_DEFAULT,
  DEADLINE_MS_MAX,
  EXPLAINED_DEFAULT,
  EXPLAINED_MAX,
  POLL_SECONDS_DEFAULT,
  POLL_SECONDS_MAX,
  PROCESSES_MAX,
  QUEUED_REQUESTS_DEFAULT,
  QUEUED_REQUESTS_MAX,
} from '../../worker/serving/server/server-limits.js';
import { packageVersion } from './package-root.js';
import { bundleLoaderOf } from './serving/bundle-loader.js';
import { ProcessesMetrics } from './serving/process-metrics.js';
import { ServingMetrics } from './serving/serving-metrics.js';
import { warmUpRequestsIn } from './serving/warm-up-file.js';
import { canaryName, openFollowedBundles } from './serving/followed-bundles.js';
import { openServedState, openSharedState, type SharedState } from './served-state.js';

const TOKEN_VARIABLE = 'QIANMO_SERVE_TOKEN';

const text = z.string().min(1, 'expected a value');

export const ServeRequestSchema = z.strictObject({
  /** `ADDRESS` of bundles, or `ADDRESS@LABEL`; a label is followed, a digest is served for good. */
  bundle: text,
  /** `ADDRESS@LABEL` of a bundle that answers a share of requests; the address is that of `bundle`. */
  canary: text.optional(),
  /** The share of requests that a canary answers, by a hash of their keys. */
  canaryShare: z.number().min(0).max(1).default(CANARY_SHARE_DEFAULT),
  /** The address to listen on. One beyond this machine demands a token. */
  host: text.default('127.0.0.1'),
  /** 0 selects a free port. */
  port: z.int().min(0).max(65_535).default(8_080),
  /** A file with the token that requests must bear; also the variable QIANMO_SERVE_TOKEN. */
  tokenFile: text.optional(),
  /** Processes that answer on the port, each on a core of its own if there is one. */
  /** `graph` loads TensorFlow and scores on the captured graph, for models that the kernel does not cover. */
  scorer: z.enum(['auto', 'graph']).default('auto'),
  processes: z.int().min(1).max(PROCESSES_MAX).default(1),
  /** Seconds between two looks at the label. */
  pollSeconds: z.number().positive().max(POLL_SECONDS_MAX).default(POLL_SECONDS_DEFAULT),
  /** A file of requests, one JSON body of /v1/rank on each line, that a bundle answers before it is served. */
  warmUp: text.optional(),
  /** Requests that wait for the scorer; more are refused with status 429. */
  queue: z.int().min(1).max(QUEUED_REQUESTS_MAX).default(QUEUED_REQUESTS_DEFAULT),
  /** Where files of bundles that are not in a folder are kept; below the user's cache if absent. */
  cache: text.optional(),
  /** The most that they may take together, in GiB. */
  cacheGib: z.number().positive().max(CACHE_GIB_MAX).default(CACHE_GIB_DEFAULT),
  /** A request that has waited longer is refused with status 503. */
  deadlineMs: z.int().min(1).max(DEADLINE_MS_MAX).default(DEADLINE_MS_DEFAULT),
  /** Candidates of a request whose scores are explained, where it asks for it. */
  explainMax: z.int().min(0).max(EXPLAINED_MAX).default(EXPLAINED_DEFAULT),
  /** A YAML file with a section `exploration`: how the first places explore. Needs `state`. */
  explore: text.optional(),
  /** A folder for what is learned while serving: adapted rows, evidence, and the log of decisions. */
  state: text.optional(),
  /** Evidence of exploration in Redis, which several servers share, in place of the folder. Needs `explore`. */
  redis: text.optional(),
  /** The port of the metrics, 0 for any free one; none if absent. */
  metricsPort: z.int().min(0).max(65_535).optional(),
  /** The address that they are served on. */
  metricsHost: text.default('127.0.0.1'),
});
export type ServeRequest = z.input<typeof ServeRequestSchema>;

export interface RankingService {
  /** Empty in a process that another one hands connections. */
  readonly url: string;
  /** The digest of the bundle that is served now. */
  readonly bundle: string;
  /** Empty where nobody counts. */
  metrics(): MetricsSnapshot | Promise<MetricsSnapshot>;
  /** Answers the requests under way, and takes no more. */
  close(): Promise<void>;
}

/** The parts that a process among several shares with the others. */
export interface ServingMember {
  readonly placeOf: () => ServingPlace;
  /** Rows of adgroups that adapt, of all processes, and what adapts them. */
  readonly shared: SharedState;
  /** Called once requests can be answered, with what takes a connection that another process has accepted. */
  readonly onOpen: (take: (socket: Socket) => void) => void;
}

export async function serveFromBundle(
  request: z.output<typeof ServeRequestSchema>,
  { clock, environment }: Surroundings,
  { onEvent = () => undefined }: CallOptions,
  member?: ServingMember,
): Promise<RankingService> {
  if (request.redis !== undefined && request.explore === undefined) throw nothingForRedis();
  if (member !== undefined) return serveAlone(request, { clock, environment }, onEvent, member);
  const serve = request.processes > 1 ? serveFromProcesses : serveAlone;
  const service = await serve(request, { clock, environment }, onEvent);
  const { metricsPort: port, metricsHost: host } = request;
  if (port === undefined) return service;
  try {
    const snapshot = (): ReturnType<RankingService['metrics']> => service.metrics();
    const metrics = await serveMetrics({ snapshot }, { port, host });
    onEvent({ kind: 'metrics-served', url: metrics.url, epochMs: clock.epochMs() });
    return {
      url: service.url,
      get bundle() {
        return service.bundle;
      },
      metrics: snapshot,
      close: async () => {
        await service.close();
        await metrics.close();
      },
    };
  } catch (error) {
    await service.close();
    throw error;
  }
}

async function serveAlone(
  request: z.output<typeof ServeRequestSchema>,
  { clock, environment }: Pick<Surroundings, 'clock' | 'environment'>,
  onEvent: StampedEventSink,
  member?: ServingMember,
): Promise<RankingService> {
  const { host, port, queue: queuedRequestsMax, deadlineMs, pollSeconds } = request;
  const token = await tokenFor(request, environment);
  const metrics = metricsOf(request, clock);
  const told = metrics === null ? onEvent : sinksTogether(onEvent, metrics.sink);
  const sink = runEventSink({ clock }, told);
  if (request.canary !== undefined) canaryName(request.bundle, request.canary);
  const recorded = new RecordedRequests(await warmUpRequestsIn(request.warmUp));
  const { address } = parsedBundleAddress(request.bundle);
  const store = objectStoreAt(address, environment);
  const loader =
    request.scorer === 'graph'
      ? readingLoader(store, await graphChoiceOf(sink))
      : bundleLoaderOf(address, request, { clock, environment });
  const given = { clock, environment, onEvent: sink };
  const state = await openServedState(request, given, member?.shared ?? null);
  const prepare = async (next: ServedBundle): Promise<void> => {
    const beside = bundles === null ? null : clock;
    await state.prepare(next, beside);
    await warmUp(next, recorded.all(), beside);
    metrics?.replacedBy(next);
  };
  let bundles: Awaited<ReturnType<typeof openFollowedBundles>> | null = null;
  let server: RankingServer;
  try {
    const parts = { clock, onEvent: sink };
    bundles = await openFollowedBundles(request, { ...parts, store, loader, prepare });
    const { keeper, canary } = bundles;
    const serverParts = {
      ...{ ...parts, keeper, canary, recorded, placeOf: member?.placeOf },
      ...{ onRequest: metrics?.onRequest, endpoints: state.endpointsWith(rankingEndpoints) },
    };
    const settings = { token, queuedRequestsMax, deadlineMs, explainedMax: request.explainMax };
    server =
      member === undefined
        ? await RankingServer.listen(serverParts, { ...settings, host, port })
        : RankingServer.ofHanded(serverParts, settings);
  } catch (error) {
    await state.close();
    await bundles?.close();
    throw error;
  }
  member?.onOpen((socket) => server.take(socket));
  const followed = bundles;
  const requests = (): RequestReport => server.requestReport();
  metrics?.watch({ ...followed, requests, exploration: state.explorationCounts });
  const { digest: bundle, choice } = followed.keeper.current;
  sink({ kind: 'server-ready', url: server.url, bundle, scorer: choice.name });
  const stop = new AbortController();
  const watched = followed.watch(pollSeconds * 1_000, stop.signal);
  return {
    url: server.url,
    get bundle() {
      return followed.keeper.current.digest;
    },
    metrics: () => metrics?.snapshot() ?? [],
    close: async () => {
      stop.abort();
      await server.drain();
      await watched;
      await state.close();
      await followed.close();
    },
  };
}

/** Null where nobody asks for metrics. */
function metricsOf(
  { metricsPort }: Pick<z.output<typeof ServeRequestSchema>, 'metricsPort'>,
  clock: Clock,
): ServingMetrics | null {
  if (metricsPort === undefined) return null;
  return new ServingMetrics({ clock, version: packageVersion() });
}

/** Loaded where it is asked for alone: it needs what TensorFlow needs. */
async function graphChoiceOf(sink: RunEventSink): Promise<ScorerChoice> {
  const { graphChoice } = await import('./serving/graph-choice.js');
  return graphChoice(sink);
}

/** The entry compiled to `dist/`, also when this file runs as TypeScript source. */
const PROCESS_ENTRY = fileURLToPath(
  new URL(
    import.meta.url.endsWith('.ts')
      ? '../../dist/infra/cli/serving-process.js'
      : '../cli/serving-process.js',
    import.meta.url,
  ),
);

async function serveFromProcesses(
  request: z.output<typeof ServeRequestSchema>,
  { clock, environment }: Pick<Surroundings, 'clock' | 'environment'>,
  onEvent: StampedEventSink,
): Promise<RankingService> {
  const { state, redis, explore } = request;
  if (explore !== undefined && state !== undefined && redis === undefined) throw evidenceOfOne();
  const version = packageVersion();
  const metrics = new ProcessesMetrics({ clock, version });
  const sink = runEventSink({ clock }, sinksTogether(onEvent, metrics.sink));
  const shared = await openSharedState(request, { clock, environment, onEvent: sink });
  let processes: ServingProcesses;
  try {
    processes = await ServingProcesses.start({
      ...{ count: request.processes, entry: PROCESS_ENTRY, environment },
      ...{ clock, sink, onEvent },
      rows: shared === null ? null : new SharedRows(shared.log, shared.engine, clock),
      listenAt: { host: request.host, port: request.port },
      requestOf: (place) => ({
        ...request,
        // The log of decisions belongs to one process.
        ...(state === undefined ? {} : { state: join(state, `process-${place}`) }),
      }),
    });
  } catch (error) {
    await shared?.close();
    throw error;
  }
  const url = await processes.listening();
  const { bundle, scorer } = processes.first;
  sink({ kind: 'server-ready', url, bundle, scorer });
  return {
    url,
    get bundle() {
      return processes.first.bundle;
    },
    metrics: () => metrics.snapshot(processes),
    close: async () => {
      await processes.stop();
      await shared?.close();
    },
  };
}

function nothingForRedis(): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'Redis would hold the evidence of exploration, and nothing explores',
    where: '--redis',
    expected: '--explore beside it',
    cure: 'give --explore POLICY.yaml, or no --redis: rows that adgroups adapt from are kept in --state',
  });
}

function evidenceOfOne(): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'several processes cannot share the evidence of exploration in a folder',
    where: '--processes',
    expected: '--redis beside --explore, or one process',
    cure: 'give --redis URL, or --processes 1',
  });
}

async function tokenFor(
  { host, tokenFile: file }: z.output<typeof ServeRequestSchema>,
  environment: Surroundings['environment'],
): Promise<string | null> {
  const token = await accessToken({ file, variable: TOKEN_VARIABLE, environment });
  demandTokenBeyondLoopback(host, token, TOKEN_VARIABLE);
  return token;
}
