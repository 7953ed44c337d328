/** The dashboard as an application: its pages by their paths, its two assets, and the queue board. */

import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { HonoAdapter } from '@bull-board/hono';
import { serveStatic } from '@hono/node-server/serve-static';
import type { Queue } from 'bullmq';
import { Hono, type Context } from 'hono';
import { trimTrailingSlash } from 'hono/trailing-slash';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import { EXPOSITION_TYPE } from '../../shared/metrics/metric-registry.js';
import { isUnderWay } from '../record/run-status.js';
import { link, textBlock, type Text } from '../reports/document/document.js';
import { PAGE_STYLE } from '../reports/document/page-style.js';
import {
  FILE_HEADERS,
  guard,
  METRICS_PATH,
  CANCEL_PATH,
  PAGE_HEADERS,
  type Access,
  type ControlDesk,
} from './access.js';
import { AdgroupPages, type RankingServers } from './adgroup-page.js';
import { clusterPage, runListPage } from './list-pages.js';
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
import type { QueueWatch } from './queue-watch.js';
import { settingsIn, type OpenedRun, type RunCatalog } from './run-catalog.js';
import { runPage } from './run-page.js';
import { servingPage } from './serving-page.js';
import { sweepListPage, sweepPage } from './sweep-pages.js';

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
