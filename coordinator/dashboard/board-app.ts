/**
 * The queue board as an application: bull-board over the job queue, read-only. It answers only requests
 * that name this machine: a foreign page could lead its own name to the loopback address (DNS rebinding).
 */

import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { HonoAdapter } from '@bull-board/hono';
import { serveStatic } from '@hono/node-server/serve-static';
import type { Queue } from 'bullmq';
import { Hono, type MiddlewareHandler } from 'hono';
import { trimTrailingSlash } from 'hono/trailing-slash';
import { EXPOSITION_TYPE } from '../../shared/metrics/exposition.js';
import { isOwnHost } from './own-host.js';

export const BOARD_PATH = '/queues';

/** @param hostsAllowed more names under which it may be asked for, without ports. */
export function boardApp(
  queue: Queue,
  hostsAllowed: readonly string[],
  metrics: () => Promise<string>,
): Hono {
  const adapter = new HonoAdapter(serveStatic);
  adapter.setBasePath(BOARD_PATH);
  createBullBoard({
    queues: [new BullMQAdapter(queue, { readOnlyMode: true })],
    serverAdapter: adapter,
    options: { uiConfig: { boardTitle: 'qianmo' } },
  });
  const app = new Hono({ strict: true });
  // A scraper names the machine as it likes, and a page of another origin cannot read the answer.
  app.get('/metrics', async (context) =>
    context.body(await metrics(), 200, { 'Content-Type': EXPOSITION_TYPE }),
  );
  app.use(refuseForeignHosts(hostsAllowed));
  app.use(trimTrailingSlash());
  app.get('/', (context) => context.redirect(BOARD_PATH));
  app.route(BOARD_PATH, adapter.registerPlugin());
  return app;
}

function refuseForeignHosts(hostsAllowed: readonly string[]): MiddlewareHandler {
  return async (context, next) => {
    const host = context.req.header('host') ?? '';
    if (isOwnHost(host, hostsAllowed)) return next();
    return context.text(
      `this queue board does not answer as ${JSON.stringify(host)}: open it at 127.0.0.1 or localhost, or ` +
        'start it with --host-allow and this name\n',
      403,
    );
  };
}
