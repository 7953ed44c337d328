/**
 * The entry of one of several processes that answer requests on one port. Its parent tells it what to
 * serve and when to stop, and a Ctrl-C that the terminal sends to all is the parent's to hear.
 */

import { failureRecordOf } from '../../shared/base/failure-record.js';
import { collectGarbageRarely } from '../../shared/base/garbage-collection.js';
import { encodeEvent } from '../../shared/events/event-lines.js';
import type { StampedEvent } from '../../shared/events/run-events.js';
import { letEngineGiveWay } from '../../worker/serving/processes/engine-threads.js';
import {
  ServingOrderSchema,
  type ServingOrder,
  type ServingReply,
} from '../../worker/serving/processes/process-messages.js';
import { RowsOfParent } from '../../worker/serving/processes/rows-of-parent.js';
import { serveRankings, type ServeRequest } from '../library/index.js';

collectGarbageRarely();
letEngineGiveWay();

const BUG = { what: 'a process of the server hit a bug', cure: 'report it' };

let service: ReturnType<typeof serveRankings> | null = null;
let counts = { wanted: 1, ready: 0 };
const rows = new RowsOfParent((message) => reply({ kind: 'rows', rows: message }));

function reply(message: ServingReply): void {
  // The parent may be gone; then this process ends with the channel.
  process.send?.(message, undefined, {}, () => undefined);
}

function told(event: StampedEvent): void {
  if (event.kind === 'bundle-served') reply({ kind: 'swapped', bundle: event.bundle });
  if (event.kind === 'server-ready') {
    const { url, bundle, scorer } = event;
    reply({ kind: 'ready', url, bundle, scorer });
  } else reply({ kind: 'event', line: encodeEvent(event) });
}

async function tellMetrics(question: number): Promise<void> {
  const values = await (await service?.catch(() => null))?.metrics();
  if (values !== undefined) reply({ kind: 'metrics', question, values });
}

async function drain(): Promise<void> {
  const open = await service?.catch(() => null);
  await open?.close();
  process.exit(0);
}

async function start({ request, place }: Extract<ServingOrder, { kind: 'start' }>): Promise<void> {
  try {
    // The parent has parsed it; it is parsed again where it is used.
    const asked = request as ServeRequest;
    const member = { placeOf: () => ({ place, ...counts }), rows };
    service = serveRankings(asked, { onEvent: told }, member);
    await service;
  } catch (error) {
    const failure = failureRecordOf(error, BUG);
    process.send?.({ kind: 'failed', failure } satisfies ServingReply, undefined, {}, () =>
      process.exit(1),
    );
  }
}

process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => void drain());
process.on('message', (message) => {
  const order = ServingOrderSchema.parse(message);
  if (order.kind === 'start') void start(order);
  else if (order.kind === 'counts') ({ counts } = order);
  else if (order.kind === 'rows') rows.hear(order.rows);
  else if (order.kind === 'metrics') void tellMetrics(order.question);
  else void drain();
});
reply({ kind: 'listening' });
