/** The server of the dashboard: it opens what its pages read, listens, and closes all of it. */

import { isIPv6 } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { Queue } from 'bullmq';
import { Hono, type Context, type MiddlewareHandler } from 'hono';
import type { Clock } from '../../shared/base/clock.js';
import { freshNonce } from '../../shared/base/nonce.js';
import { QianmoError } from '../../shared/base/errors.js';
import { redactedAddress } from '../../shared/base/redacted-address.js';
import { bullmqJobQueue } from '../../shared/queue/bullmq-job-queue.js';
import type { QueueController } from '../../shared/queue/job-queue.js';
import { INNER_LOOP_QUEUE } from '../../shared/queue/protocol.js';
import {
  type RedisConnection,
  connectRedis,
  queueCallsAt,
} from '../../shared/queue/redis-connection.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';
import type { TlsFiles } from '../../shared/storage/tls-files.js';
import { QueueWatch } from './queue-watch.js';
import { RunCatalog, settingsIn, type OpenedRun } from './run-catalog.js';
import { type RankingServers, AdgroupPages } from './adgroup-page.js';
import {
  expositionOf,
  MetricRegistry,
  EXPOSITION_TYPE,
} from '../../shared/metrics/metric-registry.js';
import { redisWorkerRegistry } from '../../shared/queue/redis-registry.js';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { HonoAdapter } from '@bull-board/hono';
import { serveStatic } from '@hono/node-server/serve-static';
import { trimTrailingSlash } from 'hono/trailing-slash';
import { LruCache } from '../../shared/base/lru-cache.js';
import { isUnderWay } from '../record/run-status.js';
import { link, textBlock, type Text } from '../reports/document/document.js';
import { PAGE_STYLE } from '../reports/document/as-page.js';
import {
  clusterPage,
  runListPage,
  sweepListPage,
  sweepPage,
  type FormOfRun,
} from './list-pages.js';
import {
  digestOf,
  LIVE_SCRIPT,
  runPath,
  SCRIPT_PATH,
  servedPage,
  STYLE_PATH,
  type NavigationPath,
  type Page,
} from './page.js';
import { runPage } from './run-page.js';
import { servingPage } from './serving-page.js';
import { createHash, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { listening } from '../../shared/network/listening.js';
import { isLoopbackHost } from '../../shared/network/addresses.js';

interface DashboardQueue {
  readonly redisUrl: string;
  /** The certificates of an encrypted connection. */
  readonly tls: TlsFiles | null;
  /** In braces: `{qianmo}`. */
  readonly prefix: string;
}

export interface DashboardOptions {
  /** Folders and `s3://` prefixes with runs; may be empty. */
  readonly roots: readonly string[];
  readonly s3: S3Options;
  /** Null for pages that are made from records alone. */
  readonly queue: DashboardQueue | null;
  /** Addresses of the metrics of ranking servers, over HTTP; none if absent. */
  readonly servers?: readonly string[];
  /** Ranking servers that are asked about single adgroups, and the token that they demand; none if absent. */
  readonly rankings?: RankingServers;
  readonly clock: Clock;
  /** 0 takes a free port. */
  readonly port: number;
  readonly host: string;
  /** More names under which it may be asked for, as of a proxy before it. */
  readonly hostsAllowed?: readonly string[];
  /** Demanded of every request; none if absent. */
  readonly token?: string | null;
  /** Lets pages cancel runs; they are read-only if absent. */
  readonly cancelRun?: CancelRun | null;
}

export interface Dashboard {
  /** The address of its first page. */
  readonly url: string;
  close(): Promise<void>;
}

interface OpenedQueue {
  readonly queue: Queue;
  readonly watch: QueueWatch;
  readonly metrics: () => Promise<string>;
  close(): Promise<void>;
}

/**
 * Serves the dashboard until closed.
 *
 * @throws QianmoError `environment` when Redis does not answer or the port is taken.
 */
export async function serveDashboard(options: DashboardOptions): Promise<Dashboard> {
  const { roots, s3, clock, servers = [], hostsAllowed = [], token = null } = options;
  const { cancelRun = null } = options;
  const opened = options.queue === null ? null : await openQueue(options.queue, clock);
  const catalog = roots.length === 0 ? null : new RunCatalog({ roots, s3, clock });
  const desk =
    cancelRun === null || opened === null
      ? null
      : new ControlDesk(cancelRun, freshNonce() + freshNonce());
  const rankings = (options.rankings?.addresses.length ?? 0) === 0 ? null : options.rankings;
  const access = { hostsAllowed, token };
  const shown = { catalog, queue: opened, servers, rankings: rankings ?? null, desk };
  const app = dashboardApp({ access, clock, ...shown });
  try {
    const server = createAdaptorServer({ fetch: app.fetch });
    const failure = { what: 'the dashboard cannot listen', option: '--port' };
    const url = await listening(server, options, failure);
    return {
      url: `${url}/`,
      close: async () => {
        const closed = new Promise((resolve) => server.close(resolve));
        // A browser keeps its connections open, and closing would wait for them.
        if ('closeAllConnections' in server) server.closeAllConnections();
        await closed;
        await opened?.close();
      },
    };
  } catch (error) {
    await opened?.close();
    throw error;
  }
}

async function openQueue(
  { redisUrl, tls, prefix }: DashboardQueue,
  clock: Clock,
): Promise<OpenedQueue> {
  const redis = await connectRedis({ url: redisUrl, role: 'producer', name: 'qianmo-board', tls });
  await requireInfo(redis, redisUrl);
  let controller: QueueController;
  try {
    controller = await bullmqJobQueue({ redisUrl, prefix, clock, tls }).openController();
  } catch (error) {
    redis.disconnect();
    throw error;
  }
  const queue = new Queue(INNER_LOOP_QUEUE, {
    connection: redis,
    prefix,
    // A viewer must not change the settings of the coordinator.
    skipMetasUpdate: true,
  });
  queue.on('error', () => undefined);
  return {
    queue,
    watch: new QueueWatch(queue, controller, clock),
    metrics: queueMetrics(queue, redis, prefix),
    close: async () => {
      await controller.close();
      await queue.close();
      redis.disconnect();
    },
  };
}

/** The board shows what INFO says. */
async function requireInfo(redis: RedisConnection, redisUrl: string): Promise<void> {
  try {
    await queueCallsAt(redactedAddress(redisUrl))(() => redis.info('server'));
  } catch (error) {
    redis.disconnect();
    throw error;
  }
}

const MS_PER_SECOND = 1000;
const DEVICES = ['cpu', 'gpu', 'auto'] as const;

/** @returns the function that reads them; it takes a few commands, whatever the length of the queue. */
function queueMetrics(queue: Queue, redis: RedisConnection, prefix: string): () => Promise<string> {
  const registry = new MetricRegistry('dashboard');
  const workers = redisWorkerRegistry(redis, prefix);
  const countOf = (state: 'wait' | 'active'): Promise<number> => redis.llen(queue.toKey(state));
  return async () => {
    const [waiting, active, ageMs, connected] = await Promise.all([
      countOf('wait'),
      countOf('active'),
      oldestAgeMs(queue, redis),
      workers.workers(),
    ]);
    registry.set('qianmo_queue_jobs', { state: 'waiting' }, waiting);
    registry.set('qianmo_queue_jobs', { state: 'active' }, active);
    registry.set('qianmo_oldest_job_age_seconds', {}, ageMs / MS_PER_SECOND);
    for (const device of DEVICES) {
      const ofDevice = connected.filter(
        (each) => (each.report?.device?.kind ?? each.device) === device,
      );
      registry.set('qianmo_workers', { device }, ofDevice.length);
    }
    return expositionOf(registry.snapshot());
  };
}

/** The entry that is taken next has waited longest; 0 if none waits. */
async function oldestAgeMs(queue: Queue, redis: RedisConnection): Promise<number> {
  const [jobId] = await redis.lrange(queue.toKey('wait'), -1, -1);
  if (jobId === undefined) return 0;
  const addedMs = Number(await redis.hget(queue.toKey(jobId), 'timestamp'));
  const [seconds, microseconds] = await redis.time();
  const nowMs = Number(seconds) * MS_PER_SECOND + Number(microseconds) / MS_PER_SECOND;
  // The entry may have been taken meanwhile.
  return addedMs > 0 ? Math.max(0, nowMs - addedMs) : 0;
}

interface DashboardParts {
  readonly access: Omit<Access, 'posts'>;
  readonly clock: Clock;
  /** Null for a dashboard that knows the queue alone. */
  readonly catalog: RunCatalog | null;
  /** Null for one that knows records alone. */
  readonly queue: ShownQueue | null;
  /** Addresses of the metrics of ranking servers. */
  readonly servers: readonly string[];
  /** Null for one that was told of none to ask about single adgroups. */
  readonly rankings: RankingServers | null;
  /** Null where nothing may be controlled. */
  readonly desk: ControlDesk | null;
}

interface ShownQueue {
  readonly queue: Queue;
  readonly watch: Pick<QueueWatch, 'state'>;
  /** Read from Redis at every call, as Prometheus reads them. */
  readonly metrics: () => Promise<string>;
}

const BOARD_PATH = '/queues';
const REPORT_BYTE_COUNT_MAX = 16 * 1024 * 1024;
/** Files of an output that the dashboard shows: the pages that commands write. */
const SHOWN_FILE = /^[a-z][A-Za-z0-9._-]{0,80}\.html$/;
const PAGES_KEPT = 64;
const PAGE_KEPT_FOR_MS = 1_000;

type MakePage = (key: string, query: URLSearchParams) => Promise<Page | null>;

/** The pages by their paths, of which `:key` is a part that names a run. */
function routesOf(parts: DashboardParts): Readonly<Record<string, MakePage>> {
  const { catalog, queue, servers, rankings, desk, clock } = parts;
  const adgroups = new AdgroupPages(rankings, clock);
  const cluster: MakePage = async () => {
    const [runs, state] = await Promise.all([
      catalog?.runs() ?? null,
      queue?.watch.state().catch((error: unknown) => ({
        failure: error instanceof Error ? error.message : String(error),
      })) ?? null,
    ]);
    const formOf = desk?.formsLeadingTo('/') ?? null;
    return clusterPage({ runs, queue: state }, clock.epochMs(), formOf);
  };
  const serving: Record<string, MakePage> =
    servers.length === 0 ? {} : { '/serving': () => servingPage(servers, clock) };
  if (catalog === null) return { '/': cluster, ...serving };
  return {
    '/': cluster,
    ...serving,
    '/runs': async (_, query) => runListPage(await catalog.runs(), query),
    '/runs/:key': async (key) => {
      const run = await catalog.open(key);
      const checkpoints = await catalog.storeOf(key, 'checkpoints');
      if (run === null || checkpoints === null) return null;
      const { run: name, state } = run.status;
      return runPage({
        ...run,
        settings: await settingsIn(checkpoints),
        control:
          desk === null || name === null || !isUnderWay(state)
            ? null
            : desk.formsLeadingTo(runPath(key))(name),
        links: [...reportLinks(run), link(`${runPath(key)}/adgroup`, 'single adgroups')],
      });
    },
    '/runs/:key/adgroup': async (key, query) => {
      const output = await catalog.storeOf(key);
      return output === null ? null : adgroups.page(key, output, query);
    },
    '/sweeps': () => sweepListPage(catalog),
    '/sweeps/:key': (key) => sweepPage(catalog, key),
  };
}

/** Reports that lie in the output are linked, others named. Calls name them as seen from their own folder. */
function reportLinks({ key, status, history }: OpenedRun): Text[] {
  const folder = status.output.split('/').at(-1) ?? '';
  return history.reports.toReversed().map((address) => {
    const [name = '', parent = ''] = address.split('/').reverse();
    return parent === folder && SHOWN_FILE.test(name)
      ? link(`${runPath(key)}/files/${name}`, name)
      : address;
  });
}

export function dashboardApp(parts: DashboardParts): Hono {
  const { catalog, queue, desk } = parts;
  const routes = routesOf(parts);
  const places = new Set<NavigationPath>(
    (['/', '/runs', '/sweeps', '/serving'] as const).filter((path) => path in routes),
  );
  if (queue !== null) places.add('/queues');
  const answer = (
    context: Context,
    page: Page,
    status: 200 | 404 | 409 | 500 | 400 | 403 | 413,
  ) => {
    const html = servedPage(page, status === 200, places);
    const etag = `"${digestOf(html)}"`;
    if (status === 200 && context.req.header('if-none-match') === etag)
      return context.body(null, 304, PAGE_HEADERS);
    return context.html(html, status, { ...PAGE_HEADERS, ETag: etag });
  };
  const app = new Hono({ strict: true });
  const posts = desk === null ? null : new RegExp(`^${CANCEL_PATH}$`);
  app.use(guard({ ...parts.access, posts }));
  app.use(trimTrailingSlash());
  const asset = (path: string, text: string, type: string): void => {
    const headers = { ...PAGE_HEADERS, 'Content-Type': `${type}; charset=utf-8` };
    app.get(path, (context) => context.body(text, 200, headers));
  };
  asset(STYLE_PATH, PAGE_STYLE, 'text/css');
  asset(SCRIPT_PATH, LIVE_SCRIPT, 'text/javascript');
  if (desk !== null)
    app.post(CANCEL_PATH, async (context) => {
      const given = await desk.receive({
        origin: context.req.header('origin'),
        host: context.req.header('host'),
        body: await context.req.text(),
      });
      if (given.kind === 'heard') return context.redirect(given.back, 303);
      return answer(context, plainPage('The order was refused', given.why), given.status);
    });
  if (queue !== null) {
    app.route(BOARD_PATH, boardApp(queue.queue));
    app.get(METRICS_PATH, async (context) =>
      context.body(await queue.metrics(), 200, { 'Content-Type': EXPOSITION_TYPE }),
    );
  }
  app.get('/runs/:key/files/:name', async (context) => {
    const { key, name } = context.req.param();
    const store = SHOWN_FILE.test(name) ? ((await catalog?.storeOf(key)) ?? null) : null;
    const object = (await store?.get(name, REPORT_BYTE_COUNT_MAX)) ?? null;
    if (object === null) return answer(context, notFound(context.req.path), 404);
    return context.html(Buffer.from(object.bytes).toString('utf8'), 200, FILE_HEADERS);
  });
  const kept = pageCache(parts.clock);
  for (const [path, make] of Object.entries(routes))
    app.get(path, async (context) => {
      const { pathname, search, searchParams } = new URL(context.req.url);
      const key = context.req.param('key') ?? '';
      const page = await kept(pathname + search, () => make(key, searchParams));
      return page === null ? answer(context, notFound(pathname), 404) : answer(context, page, 200);
    });
  app.notFound((context) => answer(context, notFound(context.req.path), 404));
  app.onError((error, context) => {
    const status = error instanceof QianmoError && error.kind === 'usage' ? 409 : 500;
    const report = error instanceof QianmoError ? error.report : null;
    const cure = report?.cure === undefined ? '' : ` ${report.cure}`;
    const text = `${report?.what ?? error.message}.${cure}`;
    return answer(context, plainPage('This page could not be made', text), status);
  });
  return app;
}

type KeptPage = { readonly page: Promise<Page | null>; untilMs: number };

/** Makes a page once for all who ask for it within its time. */
function pageCache(clock: Clock) {
  const pages = new LruCache<string, KeptPage>({ countMax: PAGES_KEPT });
  return async (path: string, make: () => Promise<Page | null>): Promise<Page | null> => {
    const known = pages.get(path);
    if (known !== undefined && clock.monotonicMs() < known.untilMs) return known.page;
    const kept: KeptPage = { page: make(), untilMs: Infinity };
    pages.put(path, kept);
    try {
      const page = await kept.page;
      kept.untilMs = clock.monotonicMs() + (page?.keptForMs ?? PAGE_KEPT_FOR_MS);
      return page;
    } catch (error) {
      pages.delete(path);
      throw error;
    }
  };
}

/** The queue board: bull-board over the job queue, read-only. */
function boardApp(queue: Queue): Hono {
  const adapter = new HonoAdapter(serveStatic);
  adapter.setBasePath(BOARD_PATH);
  createBullBoard({
    queues: [new BullMQAdapter(queue, { readOnlyMode: true })],
    serverAdapter: adapter,
    options: { uiConfig: { boardTitle: 'qianmo' } },
  });
  return adapter.registerPlugin();
}

function notFound(path: string): Page {
  const text = `${path} is no page of this dashboard, or its run is gone.`;
  return plainPage('There is no such page', text);
}

function plainPage(title: string, text: string): Page {
  return { title, place: null, parts: { head: [textBlock(text)] } };
}

interface Access {
  /** More names and addresses under which it may be asked for. */
  readonly hostsAllowed: readonly string[];
  /** Demanded of every request; null demands none. */
  readonly token: string | null;
  /** Paths that take a form when control is allowed; null when nothing is. */
  readonly posts: RegExp | null;
}

/** The place of the queue's metrics. */
const METRICS_PATH = '/metrics';

const READING: ReadonlySet<string> = new Set(['GET', 'HEAD']);

function guard(access: Access): MiddlewareHandler {
  return async (context, next) => {
    const { method, path } = context.req;
    const host = context.req.header('host') ?? '';
    const isTokenGiven =
      access.token !== null && hasToken(context.req.header('authorization'), access.token);
    // Scrapers ask by addresses that nobody knows beforehand, and a foreign page has no token.
    const mayNameAny = path === METRICS_PATH && isTokenGiven;
    if (!mayNameAny && !isOwnHost(host, access.hostsAllowed))
      return refuse(context, 403, notItsName(host, path, access));
    if (access.token !== null && !isTokenGiven) {
      context.header('WWW-Authenticate', 'Basic realm="qianmo", charset="UTF-8"');
      return refuse(
        context,
        401,
        'this dashboard demands its token: as the password of any user, or as Authorization: Bearer TOKEN',
      );
    }
    const mayPost = method === 'POST' && (access.posts?.test(path) ?? false);
    if (!READING.has(method) && !mayPost) {
      context.header('Allow', 'GET, HEAD');
      return refuse(
        context,
        405,
        `this dashboard is read-only and does not take ${method} here; --allow-control lets it cancel runs`,
      );
    }
    return next();
  };
}

const PORT = /:\d{1,5}$/;

/**
 * The name or address without the port, in lower case, and IPv6 without brackets.
 *
 * @param host a Host header, or a name that an option allows.
 */
function hostName(host: string): string {
  const name = (isIPv6(host) ? host : host.replace(PORT, '')).toLowerCase();
  const inBrackets = /^\[(.*)\]$/.exec(name)?.[1] ?? '';
  return isIPv6(inBrackets) ? inBrackets : name;
}

/** @param hostsAllowed further names or addresses. */
function isOwnHost(host: string, hostsAllowed: readonly string[]): boolean {
  const name = hostName(host);
  if (name === '') return false;
  return isLoopbackHost(name) || hostsAllowed.some((allowed) => hostName(allowed) === name);
}

function notItsName(host: string, path: string, { token }: Access): string {
  const byToken =
    path === METRICS_PATH && token !== null
      ? '; to a request with its token it answers here under any name'
      : '';
  return `this dashboard does not answer as ${JSON.stringify(hostName(host))}: open it at 127.0.0.1 or localhost, or start it with --host-allow and this name${byToken}`;
}

/** Browsers say whether a form was sent by a page of this server itself. */
function isOwnOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined || host === undefined) return false;
  return origin === `http://${host}` || origin === `https://${host}`;
}

/** Compares in constant time. */
function areEqual(given: string, expected: string): boolean {
  const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digestOf(given), digestOf(expected));
}

function hasToken(header: string | undefined, token: string): boolean {
  const [scheme = '', value = ''] = (header ?? '').split(' ');
  if (scheme.toLowerCase() === 'bearer') return areEqual(value, token);
  if (scheme.toLowerCase() !== 'basic') return false;
  const pair = Buffer.from(value, 'base64').toString('utf8');
  return areEqual(pair.slice(pair.indexOf(':') + 1), token);
}

function refuse(context: Context, status: 401 | 403 | 405, why: string): Response {
  return context.text(`${why}\n`, status);
}

/**
 * Headers of every page of the dashboard. Drawings have styles of their own in attributes; scripts come from the one
 * file of the server alone.
 */
const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; " +
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'same-origin',
  'X-Content-Type-Options': 'nosniff',
};

/** Headers of a file from the output of a run, which may come from anybody. */
const FILE_HEADERS: Readonly<Record<string, string>> = {
  ...PAGE_HEADERS,
  'Content-Security-Policy':
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
};

/** Cancels the run of this name. Resolves with a sentence when its coordinator has heard it. */
type CancelRun = (run: string) => Promise<string>;

const CANCEL_PATH = '/cancel';
const FORM_BYTE_COUNT_MAX = 4_096;

const FormSchema = z.strictObject({
  run: z.string().min(1).max(128),
  csrf: z.string().max(200),
  back: z.string().max(1_000).default('/'),
});

interface PostedForm {
  readonly origin: string | undefined;
  readonly host: string | undefined;
  /** The body, as a form of a page encodes it. */
  readonly body: string;
}

type FormAnswer =
  | { readonly kind: 'heard'; readonly sentence: string; readonly back: string }
  | ReturnType<typeof refusal>;

export class ControlDesk {
  readonly #cancel: CancelRun;
  readonly #csrf: string;

  /** @param csrf a text that nobody can guess */
  constructor(cancel: CancelRun, csrf: string) {
    this.#cancel = cancel;
    this.#csrf = csrf;
  }

  /** @param back the path of the page that shows the form */
  formsLeadingTo(back: string): FormOfRun {
    return (run) => ({
      ...{ kind: 'form', method: 'post', action: CANCEL_PATH },
      hidden: { csrf: this.#csrf, back },
      buttons: [
        { text: 'Cancel', name: 'run', value: run, label: `Cancel run ${run}`, isDanger: true },
      ],
    });
  }

  /** @throws what cancelling the run throws. */
  async receive({ origin, host, body }: PostedForm): Promise<FormAnswer> {
    if (!isOwnOrigin(origin, host))
      return refusal(403, 'the form was not sent by a page of this server');
    if (body.length > FORM_BYTE_COUNT_MAX) return refusal(413, 'the form is too large');
    const form = FormSchema.safeParse(Object.fromEntries(new URLSearchParams(body)));
    if (!form.success) return refusal(400, z.prettifyError(form.error));
    const { run, csrf, back } = form.data;
    if (!areEqual(csrf, this.#csrf))
      return refusal(403, 'the form is of an earlier start of this server: load its page again');
    return { kind: 'heard', sentence: await this.#cancel(run), back: ownPath(back) };
  }
}

function refusal(status: 400 | 403 | 413, why: string) {
  return { kind: 'refused', status, why } as const;
}

/** A path of this server, whatever the form says. */
function ownPath(back: string): string {
  return /^\/(?![/\\])[^\s\\]*$/.test(back) ? back : '/';
}
