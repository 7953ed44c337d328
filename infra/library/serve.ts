/** Serves rankings from a bundle in this process, which loads no TensorFlow. */

import { join } from 'node:path';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';
import { scoringAddon } from '#bootstrap/native-addons.mjs';
import { accessToken, requireTokenBeyondLoopback } from './access-token.js';
import { parsedBundleAddress, objectStoreAt, s3OptionsIn } from '../../coordinator/runs/places.js';
import type { CallOptions, Surroundings } from '../../coordinator/runs/run-handle.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import {
  runEventSink,
  sinksTogether,
  type StampedEventSink,
} from '../../shared/events/run-events.js';
import type { MetricsSnapshot } from '../../shared/metrics/metric-registry.js';
import { serveMetrics } from '../../shared/metrics/metrics-server.js';
import { BundleKeeper, CanaryKeeper } from '../../worker/serving/server/bundle-keeper.js';
import { ServingProcesses } from '../../worker/serving/processes/serving-processes.js';
import type { ParentLink } from '../../worker/serving/processes/state-link.js';
import type { ServingPlace, RequestReport } from '../../worker/serving/server/endpoint.js';
import { rankingEndpoints } from '../../worker/serving/server/endpoints/table.js';
import type { ServedBundle } from '../../worker/serving/server/served-bundle.js';
import { RankingServer } from '../../worker/serving/server/ranking-server.js';
import type { ServeRequestSchema } from './requests.js';
import { packageVersion } from './package-root.js';
import { ProcessesMetrics, ServingMetrics } from './serving-metrics.js';
import { defaultRowsIn, openServedState, openProcessesState } from './served-state.js';
import { LATEST_LABEL } from '../../shared/bundle/bundle-store.js';
import { cacheFolder } from '../../shared/base/cache-folder.js';
import { MappingLoader } from '../../worker/serving/loading/mapping-loader.js';

const TOKEN_VARIABLE = 'QIANMO_SERVE_TOKEN';
const WRITE_TOKEN_VARIABLE = 'QIANMO_SERVE_WRITE_TOKEN';

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
interface ServingMember {
  readonly placeOf: () => ServingPlace;
  /** Has the state of all processes. */
  readonly parent: ParentLink;
  /** Called once requests can be answered, with what takes a connection that another process has accepted. */
  readonly onOpen: (take: (socket: Socket) => void) => void;
}

export async function serveFromBundle(
  request: z.output<typeof ServeRequestSchema>,
  { clock, environment }: Surroundings,
  { onEvent = () => undefined }: CallOptions,
  member?: ServingMember,
): Promise<RankingService> {
  const { redis, explore, rows } = request;
  if (redis !== undefined && explore === undefined && rows === undefined) throw nothingForRedis();
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
  const tokens = await tokensFor(request, environment);
  const isCounted = request.metricsPort !== undefined;
  const metrics = isCounted ? new ServingMetrics({ clock, version: packageVersion() }) : null;
  const told = metrics === null ? onEvent : sinksTogether(onEvent, metrics.sink);
  const sink = runEventSink({ clock }, told);
  if (request.canary !== undefined) canaryName(request.bundle, request.canary);
  const { address } = parsedBundleAddress(request.bundle);
  const store = objectStoreAt(address, environment);
  const loader = bundleLoaderOf(address, request, environment);
  const given = { clock, environment, onEvent: sink };
  const state = await openServedState(request, given, member?.parent ?? null);
  const prepare = async (next: ServedBundle): Promise<void> => {
    await state.prepare(next, bundles === null ? null : clock);
    metrics?.replacedBy(next);
  };
  let bundles: Awaited<ReturnType<typeof openFollowedBundles>> | null = null;
  let server: RankingServer;
  try {
    const parts = { clock, onEvent: sink };
    bundles = await openFollowedBundles(request, { ...parts, store, loader, prepare });
    const { keeper, canary } = bundles;
    const serverParts = {
      ...{ ...parts, keeper, canary, placeOf: member?.placeOf },
      ...{ onRequest: metrics?.onRequest, endpoints: state.endpointsWith(rankingEndpoints) },
    };
    const settings = { ...tokens, queuedRequestsMax, deadlineMs, explainedMax: request.explainMax };
    server =
      member === undefined
        ? await RankingServer.listen(serverParts, { ...settings, host, port })
        : RankingServer.ofHanded(serverParts, settings);
  } catch (error) {
    await state.close();
    bundles?.canary?.close();
    await bundles?.keeper.close();
    throw error;
  }
  member?.onOpen((socket) => server.take(socket));
  const { keeper, canary } = bundles;
  const requests = (): RequestReport => server.requestReport();
  metrics?.watch({ keeper, canary, requests, exploration: state.explorationCounts });
  const { digest: bundle, scorerName: scorer } = keeper.current;
  sink({ kind: 'server-ready', url: server.url, bundle, scorer });
  const stop = new AbortController();
  const followed = canary === null ? [keeper] : [keeper, canary];
  const watched = followed.map((each) => each.watch(1_000 * pollSeconds, stop.signal));
  return {
    url: server.url,
    get bundle() {
      return keeper.current.digest;
    },
    metrics: () => metrics?.snapshot() ?? [],
    close: async () => {
      stop.abort();
      await server.drain();
      await Promise.all(watched);
      await state.close();
      canary?.close();
      await keeper.close();
    },
  };
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
  const { state, explore, rows } = request;
  const version = packageVersion();
  const metrics = new ProcessesMetrics({ clock, version });
  const sink = runEventSink({ clock }, sinksTogether(onEvent, metrics.sink));
  const shared = await openProcessesState(request, { clock, environment, onEvent: sink });
  let processes: ServingProcesses;
  try {
    processes = await ServingProcesses.start({
      ...{ count: request.processes, entry: PROCESS_ENTRY, environment },
      ...{ clock, sink, onEvent },
      state: shared?.state ?? null,
      listenAt: { host: request.host, port: request.port },
      requestOf: (place) => ({
        ...request,
        // A spool of rows belongs to one process; all deliver to one log.
        ...(state === undefined ? {} : { state: join(state, `process-${place}`) }),
        ...(state === undefined || explore === undefined
          ? {}
          : { rows: rows ?? defaultRowsIn(state) }),
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
    what: 'Redis would hold the evidence of what was shown, and nothing is logged',
    where: '--redis',
    expected: '--explore or --rows beside it',
    cure: 'give --explore POLICY.yaml or --rows ADDRESS, or no --redis: rows that adgroups adapt from are kept in --state',
  });
}

async function tokensFor(
  { host, tokenFile, writeTokenFile }: z.output<typeof ServeRequestSchema>,
  environment: Surroundings['environment'],
): Promise<{ readonly token: string | null; readonly writeToken: string | null }> {
  const token = await accessToken({ file: tokenFile, variable: TOKEN_VARIABLE, environment });
  requireTokenBeyondLoopback(host, token, TOKEN_VARIABLE);
  const ofWrites = { file: writeTokenFile, variable: WRITE_TOKEN_VARIABLE, environment };
  return { token, writeToken: (await accessToken(ofWrites)) ?? token };
}

type FollowedSource = Omit<Parameters<typeof BundleKeeper.open>[0], 'name'>;

/** @throws QianmoError if there is no bundle to be served; a canary that is wrong is told of. */
async function openFollowedBundles(
  { bundle, canary: label, canaryShare: share }: z.output<typeof ServeRequestSchema>,
  source: FollowedSource,
): Promise<{ readonly keeper: BundleKeeper; readonly canary: CanaryKeeper | null }> {
  const { name = LATEST_LABEL } = parsedBundleAddress(bundle);
  try {
    const keeper = await BundleKeeper.open({ ...source, name });
    if (label === undefined) return { keeper, canary: null };
    const stable = (): string => keeper.current.digest;
    const canaryLabel = canaryName(bundle, label);
    return {
      keeper,
      canary: await CanaryKeeper.open({ ...source, name: canaryLabel, share, stable }),
    };
  } catch (error) {
    await source.loader.close();
    throw error;
  }
}

/** @throws QianmoError of kind `usage` if it has another address, or no label. */
function canaryName(bundle: string, canary: string): string {
  const { address } = parsedBundleAddress(bundle);
  const parsed = parsedBundleAddress(canary);
  if (parsed.address === address && parsed.name !== undefined) return parsed.name;
  throw errorOf('usage', 'a canary is a bundle at the address of the others, under a label', {
    where: '--canary',
    expected: `${address}@canary, for example`,
    found: canary,
    cure: 'export it there, and move a label to it with `qianmo bundle label`',
  });
}

/** Below the folder where processes of this user keep what can be made again. */
const CACHE_NAME = 'bundle-files';

/** @param address of the bundles. */
function bundleLoaderOf(
  address: string,
  { cache, cacheGib }: z.output<typeof ServeRequestSchema>,
  environment: Surroundings['environment'],
): MappingLoader {
  const folder = cache ?? cacheFolder(environment, CACHE_NAME);
  // A folder's own files are mapped, and need no cache.
  if (folder === null && address.startsWith('s3://'))
    throw new QianmoError({
      kind: 'usage',
      what: 'files of bundles from S3 need a folder for a cache, and the user has none',
      where: '--cache',
      cure: 'give --cache FOLDER',
    });
  return new MappingLoader({
    ...{ address, s3: s3OptionsIn(environment), addonPath: scoringAddon.path() },
    cacheFolder: folder ?? '',
    cacheByteCountMax: cacheGib * 2 ** 30,
  });
}
