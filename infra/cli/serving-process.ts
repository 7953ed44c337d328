/**
 * The entry of one of several processes that answer requests on one port. Its parent tells it what to
 * serve and when to stop, and a Ctrl-C that the terminal sends to all is the parent's to hear.
 */

import { Socket } from 'node:net';
import { failureRecordOf } from '../../shared/base/failure-record.js';
import { collectGarbageRarely } from '../../shared/base/garbage-collection.js';
import { encodeEvent } from '../../shared/events/event-lines.js';
import type { StampedEvent } from '../../shared/events/run-events.js';
import { loadPluginsOfArguments } from '../../shared/plugins/load-plugins.js';
import type { HandedOutcome } from '../../worker/serving/processes/connection-hand-out.js';
import type {
  ServingOrder,
  ServingReply,
} from '../../worker/serving/processes/serving-processes.js';
import { ParentLink } from '../../worker/serving/processes/state-link.js';
import { ServeRequestSchema } from '../library/requests.js';
import { serveFromBundle, type RankingService } from '../library/serve.js';
import { surroundingsOf } from '../library/verb.js';

collectGarbageRarely();

const BUG = { what: 'a process of the server hit a bug', cure: 'report it' };

let service: Promise<RankingService> | null = null;
let counts = { wanted: 1, ready: 0 };
/** Null before requests can be answered. */
let take: ((socket: Socket) => void) | null = null;
let isDraining = false;
const parent = new ParentLink((state) => reply({ kind: 'state', state }));

function reply(message: ServingReply): void {
  // The parent may be gone; then this process ends with the channel.
  process.send?.(message, undefined, {}, () => undefined);
}

function tell(event: StampedEvent): void {
  if (event.kind === 'bundle-served') reply({ kind: 'swapped', bundle: event.bundle });
  if (event.kind === 'server-ready') {
    const { bundle, scorer } = event;
    reply({ kind: 'ready', bundle, scorer });
  } else reply({ kind: 'event', line: encodeEvent(event) });
}

async function tellMetrics(question: number): Promise<void> {
  const values = await (await service?.catch(() => null))?.metrics();
  if (values !== undefined) reply({ kind: 'metrics', question, values });
}

/** The parent knows that a connection is taken before a byte is read: another one it may give to another process. */
function takeConnection(number: number, socket: unknown): void {
  if (!(socket instanceof Socket)) {
    tellOutcome(number, 'missing');
    return;
  }
  const taken = take;
  if (taken === null || isDraining) {
    socket.destroy();
    tellOutcome(number, 'closing');
  } else tellOutcome(number, 'taken', () => taken(socket));
}

function tellOutcome(number: number, outcome: HandedOutcome, done = (): void => undefined): void {
  const message: ServingReply = { kind: 'connection', number, outcome };
  process.send?.(message, undefined, {}, done);
}

async function drain(): Promise<void> {
  isDraining = true;
  const open = await service?.catch(() => null);
  await open?.close();
  process.exit(0);
}

async function start({ request, place }: Extract<ServingOrder, { kind: 'start' }>): Promise<void> {
  try {
    await loadPluginsOfArguments();
    const asked = ServeRequestSchema.parse(request);
    const onOpen = (taking: typeof take): void => {
      take = taking;
    };
    const member = { placeOf: () => ({ place, ...counts }), parent, onOpen };
    service = serveFromBundle(asked, surroundingsOf({}), { onEvent: tell }, member);
    await service;
  } catch (error) {
    const failure = failureRecordOf(error, BUG);
    process.send?.({ kind: 'failed', failure } satisfies ServingReply, undefined, {}, () =>
      process.exit(1),
    );
  }
}

for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('SIGTERM', () => void drain());
// Nobody is left to hand it connections, or to start it again.
process.on('disconnect', () => process.exit(0));
process.on('message', (message, socket) => {
  // The parent sends nothing else.
  const order = message as ServingOrder;
  if (order.kind === 'start') void start(order);
  else if (order.kind === 'connection') takeConnection(order.number, socket);
  else if (order.kind === 'counts') ({ counts } = order);
  else if (order.kind === 'state') parent.hear(order.state);
  else if (order.kind === 'metrics') void tellMetrics(order.question);
  else void drain();
});
reply({ kind: 'listening' });
