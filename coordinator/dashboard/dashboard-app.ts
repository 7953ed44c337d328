/** The dashboard as an application: its pages, their stream of changes, its two assets, and the queue board. */

import { readFile } from 'node:fs/promises';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { HonoAdapter } from '@bull-board/hono';
import { serveStatic } from '@hono/node-server/serve-static';
import type { Queue } from 'bullmq';
import { Hono, type Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import { trimTrailingSlash } from 'hono/trailing-slash';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { EXPOSITION_TYPE } from '../../shared/metrics/exposition.js';
import { textBlock } from '../reports/document/document.js';
import { PAGE_STYLE } from '../reports/document/page-style.js';
import { FILE_HEADERS, guard, METRICS_PATH, PAGE_HEADERS, type Access } from './access.js';
import type { RunCatalog } from './catalog/run-catalog.js';
import { ORDERS_PATH, type ControlDesk } from './control-desk.js';
import type { PageFeed } from './page-feed.js';
import { SHOWN_FILE, type PageRoutes } from './page-routes.js';
import {
  headPart,
  runPath,
  SCRIPT_PATH,
  servedPage,
  STYLE_PATH,
  type NavigationPath,
  type Page,
} from './pages/page.js';

interface DashboardParts {
  readonly access: Omit<Access, 'posts'>;
  readonly catalog: RunCatalog | null;
  readonly routes: PageRoutes;
  readonly feed: PageFeed;
  readonly places: ReadonlySet<NavigationPath>;
  /** Null where nothing may be controlled. */
  readonly desk: ControlDesk | null;
  readonly clock: Clock;
  /** Null without a queue. */
  readonly queue: ShownQueue | null;
}

interface ShownQueue {
  readonly queue: Queue;
  /** Read from Redis at every call, as Prometheus reads them. */
  readonly metrics: () => Promise<string>;
}

const LIVE_PATH = '/live';
const BOARD_PATH = '/queues';
/** A stream says something this often, so that whatever lies between keeps it open. */
const KEEP_ALIVE_MS = 15_000;
const REPORT_BYTE_COUNT_MAX = 16 * 1024 * 1024;
const HAS_LENGTH_MAX = 4_000;

export function dashboardApp(parts: DashboardParts): Hono {
  const app = new Hono({ strict: true });
  const posts = parts.desk === null ? null : new RegExp(`^${ORDERS_PATH}$`);
  app.use(guard({ ...parts.access, posts }));
  app.use(trimTrailingSlash());
  app.get(STYLE_PATH, (context) => asset(context, PAGE_STYLE, 'text/css; charset=utf-8'));
  app.get(SCRIPT_PATH, async (context) =>
    asset(context, await script(), 'text/javascript; charset=utf-8'),
  );
  app.get(LIVE_PATH, (context) => changes(context, parts));
  const { desk, queue } = parts;
  if (desk !== null) app.post(ORDERS_PATH, (context) => ordered(context, desk, parts));
  if (queue !== null) {
    app.route(BOARD_PATH, boardApp(queue.queue));
    app.get(METRICS_PATH, async (context) =>
      context.body(await queue.metrics(), 200, { 'Content-Type': EXPOSITION_TYPE }),
    );
  }
  app.get('/runs/:key/files/:name', (context) => fileOfRun(context, parts));
  app.get('*', async (context) => {
    const { pathname, search } = new URL(context.req.url);
    const page = await parts.routes.pageAt(pathname + search);
    return page === null
      ? answered(context, notFound(pathname), parts, { status: 404 })
      : answered(context, page, parts, { livePath: pathname + search });
  });
  app.onError((error, context) => {
    const status = error instanceof QianmoError && error.kind === 'usage' ? 409 : 500;
    return answered(context, failure(error), parts, { status });
  });
  return app;
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

interface Answered {
  readonly status?: 200 | 400 | 403 | 404 | 409 | 413 | 500;
  /** The path of a page that changes. */
  readonly livePath?: string;
}

function answered(
  context: Context,
  page: Page,
  { places }: Pick<DashboardParts, 'places'>,
  { status = 200, livePath }: Answered,
): Response {
  const path = livePath === undefined ? null : `${LIVE_PATH}?page=${encodeURIComponent(livePath)}`;
  return context.html(servedPage(page, { livePath: path, places }), status, PAGE_HEADERS);
}

function asset(context: Context, text: string, type: string): Response {
  return context.body(text, 200, { ...PAGE_HEADERS, 'Content-Type': type });
}

/** The compiled script, also when this file runs as TypeScript source. */
async function script(): Promise<string> {
  const here = import.meta.url;
  const path = here.endsWith('.ts')
    ? '../../dist/coordinator/dashboard/browser/live.js'
    : './browser/live.js';
  const text = await readFile(new URL(path, here), 'utf8');
  return text.replace(/^\/\/# sourceMappingURL=.*$/m, '');
}

function changes(context: Context, { feed, clock }: DashboardParts): Response | Promise<Response> {
  const path = context.req.query('page') ?? '/';
  // A browser that connects again names the last event, and its address what the page had at first.
  const has = hasOf(context.req.header('last-event-id') ?? context.req.query('has') ?? '');
  return streamSSE(context, async (stream) => {
    const ended = new AbortController();
    stream.onAbort(() => ended.abort());
    const end = feed.watch(path, has, (changed) => {
      for (const part of changed.parts) has.set(part.id, part.digest);
      return stream.writeSSE({
        ...{ id: textOf(has), event: 'parts', data: JSON.stringify(changed) },
      });
    });
    if (end === null) {
      await stream.writeSSE({ event: 'full', data: '', retry: 60_000 });
      return;
    }
    await stream.writeSSE({ event: 'open', data: '', retry: 1_000 });
    try {
      while (!ended.signal.aborted) {
        await clock.sleep(KEEP_ALIVE_MS, ended.signal);
        await stream.writeSSE({ event: 'alive', data: '' });
      }
    } finally {
      end();
    }
  });
}

/** `id.digest,id.digest` */
function hasOf(text: string): Map<string, string> {
  return new Map(
    text
      .slice(0, HAS_LENGTH_MAX)
      .split(',')
      .flatMap((pair) => {
        const [id, digest] = pair.split('.');
        return id === undefined || digest === undefined ? [] : [[id, digest]];
      }),
  );
}

function textOf(has: ReadonlyMap<string, string>): string {
  return [...has].map(([id, digest]) => `${id}.${digest}`).join(',');
}

async function fileOfRun(
  context: Context,
  { catalog, ...parts }: DashboardParts,
): Promise<Response> {
  const { key = '', name = '' } = context.req.param();
  const store = SHOWN_FILE.test(name) ? ((await catalog?.storeOf(key)) ?? null) : null;
  const object = store === null ? null : await store.get(name, REPORT_BYTE_COUNT_MAX);
  if (object === null)
    return answered(context, notFound(`${runPath(key)}/files/${name}`), parts, { status: 404 });
  return context.html(Buffer.from(object.bytes).toString('utf8'), 200, FILE_HEADERS);
}

async function ordered(
  context: Context,
  desk: ControlDesk,
  parts: DashboardParts,
): Promise<Response> {
  const answer = await desk.receive({
    origin: context.req.header('origin'),
    host: context.req.header('host'),
    body: await context.req.text(),
  });
  if (answer.kind === 'heard') return context.redirect(answer.back, 303);
  const page = plainPage('The order was refused', answer.why);
  return answered(context, page, parts, { status: answer.status });
}

function notFound(path: string): Page {
  return plainPage(
    'There is no such page',
    `${path} is no page of this dashboard, or its run is gone.`,
  );
}

function failure(error: Error): Page {
  const report = error instanceof QianmoError ? error.report : null;
  const cure = report?.cure === undefined ? '' : ` ${report.cure}`;
  return plainPage('This page could not be made', `${report?.what ?? error.message}.${cure}`);
}

function plainPage(title: string, text: string): Page {
  return { title, place: null, parts: [headPart(title, '', textBlock(text))] };
}
