/**
 * The HTTP server of rankings: it receives requests within bounds, lets them wait for their turn, and
 * has them answered by its endpoints. Nothing that a request says names a file or an address.
 */

import {
  createServer,
  STATUS_CODES,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { RunEventSink } from '../../../shared/events/run-events.js';
import { BundleChoice } from '../bundle-choice.js';
import type { RecordedRequests } from '../recorded-requests.js';
import type {
  Answer,
  Endpoint,
  KeptBundle,
  ReceivedRequest,
  ServerView,
  ServingPlace,
} from './endpoint.js';
import { freeMemory } from '../freed-memory.js';
import { BodyReceiver } from './received-body.js';
import { problemOf, RefusedRequest, statusOf, type Refusal } from './refused-request.js';
import { deadlineOf, demandMediaType, demandToken, priorityOf } from './request-checks.js';
import { RequestCounts, type RequestReport } from './request-counts.js';
import { RouteTable } from './route-table.js';
import {
  CONNECTIONS_MAX,
  DRAIN_MS_MAX,
  EXPLAINED_DEFAULT,
  HEADERS_TIMEOUT_MS,
  KEEP_ALIVE_MS,
  REQUEST_TIMEOUT_MS,
} from './server-limits.js';
import { WorkQueue } from './work-queue.js';

export interface ServerSettings {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Demanded of every request but those of health; null demands none. */
  readonly token: string | null;
  readonly queuedRequestsMax: number;
  readonly deadlineMs: number;
  /** Candidates of a request that are explained. */
  readonly explainedMax?: number;
  /** For the headers and the body of a request. */
  readonly requestTimeoutMs?: number;
}

interface ServerParts {
  readonly keeper: KeptBundle;
  readonly canary?: ServerView['canary'];
  /** Keeps requests for the next bundle. */
  readonly recorded?: RecordedRequests;
  readonly clock: Clock;
  readonly onEvent: RunEventSink;
  readonly endpoints: readonly Endpoint[];
  /** Called for each request that has ended; it must be cheap. */
  readonly onRequest?: ((ended: EndedRequest) => void) | undefined;
  /** Where this is one of several processes. */
  readonly placeOf?: (() => ServingPlace) | undefined;
}

/** A request with an answer, or one whose client has left. */
export interface EndedRequest {
  /** The path of its endpoint; `none` if no endpoint was found. */
  readonly route: string;
  readonly status: number;
  readonly durationMs: number;
}

/** A request that an endpoint was found for. */
interface RoutedRequest extends Pick<ReceivedRequest, 'headers' | 'parameters'> {
  readonly endpoint: Endpoint;
  readonly mediaType: string;
}

const NO_BODY = Buffer.alloc(0);

export class RankingServer {
  readonly #parts: ServerParts;
  readonly #settings: ServerSettings;
  readonly #server: Server;
  readonly #routes: RouteTable;
  readonly #queue: WorkQueue;
  readonly #bodies: BodyReceiver;
  readonly #counts = new RequestCounts();
  /** A set of them would be rebuilt every few requests, and the tables that it has left keep answers alive. */
  #underWayCount = 0;
  #isDraining = false;

  private constructor(parts: ServerParts, settings: ServerSettings) {
    this.#parts = parts;
    this.#settings = settings;
    this.#routes = new RouteTable(parts.endpoints);
    this.#bodies = new BodyReceiver((bytes) =>
      freeMemory(parts.keeper.current.choice.addon, bytes),
    );
    this.#queue = new WorkQueue(parts.clock, settings.queuedRequestsMax);
    const requestTimeout = settings.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    this.#server = createServer(
      {
        keepAliveTimeout: KEEP_ALIVE_MS,
        headersTimeout: Math.min(HEADERS_TIMEOUT_MS, requestTimeout),
        requestTimeout,
        connectionsCheckingInterval: Math.min(500, requestTimeout),
      },
      (request, response) => void this.#take(request, response),
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.on('clientError', (error: Error, socket: Socket) => {
      this.#answerUnread(error, socket);
    });
  }

  /** @throws QianmoError of kind `environment` if the port is taken. */
  static async listen(parts: ServerParts, settings: ServerSettings): Promise<RankingServer> {
    const server = new RankingServer(parts, settings);
    await server.#listen();
    return server;
  }

  get #view(): ServerView {
    const { keeper, canary = null, endpoints } = this.#parts;
    const requestReport = (): RequestReport => this.requestReport();
    const processes = this.#parts.placeOf?.() ?? null;
    const { explainedMax = EXPLAINED_DEFAULT } = this.#settings;
    return {
      ...{ keeper, canary, isDraining: this.#isDraining },
      ...{ processes, explainedMax, requestReport, endpoints },
    };
  }

  /** Outcomes of requests. */
  requestReport(): RequestReport {
    return { waiting: this.#queue.length, ...this.#counts.report() };
  }

  get url(): string {
    // Only pipes have an address without a port.
    const { port } = this.#server.address() as AddressInfo;
    const { host } = this.#settings;
    return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  /** Takes no more requests, answers those under way, and closes. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    const { clock, onEvent } = this.#parts;
    onEvent({ kind: 'server-draining', requestCount: this.#underWayCount });
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const drained = new AbortController();
    const late = clock.sleep(DRAIN_MS_MAX, drained.signal);
    await Promise.race([closed, late]);
    drained.abort();
    this.#server.closeAllConnections();
    await closed;
  }

  #listen(): Promise<void> {
    const { host, port } = this.#settings;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const isTaken = cause.code === 'EADDRINUSE';
        reject(
          new QianmoError({
            kind: 'environment',
            what: isTaken ? 'another program listens on this port' : 'the server cannot listen',
            where: `${host}:${port}`,
            found: cause.message,
            cure: 'give another --port, or 0 for a free one',
            cause,
          }),
        );
      });
      this.#server.listen({ host, port }, resolve);
    });
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { clock, onRequest } = this.#parts;
    const arrival = { atMs: clock.monotonicMs(), route: 'none' };
    this.#underWayCount += 1;
    response.once('close', () => {
      this.#underWayCount -= 1;
      if (!response.writableFinished) this.#counts.abandon();
      onRequest?.({
        ...{ route: arrival.route, status: response.statusCode },
        durationMs: clock.monotonicMs() - arrival.atMs,
      });
    });
    try {
      await this.#route(request, response, arrival);
    } catch (error) {
      this.#refuse(response, error);
    }
  }

  async #route(
    request: IncomingMessage,
    response: ServerResponse,
    arrival: { readonly atMs: number; route: string },
  ): Promise<void> {
    const { headers } = request;
    const { endpoint, parameters } = this.#routes.routeOf(request.method ?? '', request.url ?? '');
    arrival.route = endpoint.path;
    const isOpen = endpoint.method === 'GET' && endpoint.isOpen === true;
    if (!isOpen) demandToken(request, this.#settings.token);
    if (endpoint.method === 'GET') {
      await this.#answer(response, { endpoint, headers, parameters, mediaType: '' }, NO_BODY);
      return;
    }
    const mediaType = demandMediaType(request, endpoint.mediaTypes);
    const deadlineMs = deadlineOf(request, this.#settings.deadlineMs);
    const priority = priorityOf(request);
    const body = await this.#bodies.receive(request);
    if (body === null) return;
    const routed = { endpoint, headers, parameters, mediaType };
    const carryOut = async (): Promise<void> => {
      await this.#answer(response, routed, body);
      this.#bodies.free(body);
    };
    const refuse = (refused: RefusedRequest): void => {
      this.#bodies.free(body);
      this.#refuse(response, refused);
    };
    try {
      const work = { priority, arrivalMs: arrival.atMs, deadlineMs, refuse };
      this.#queue.add({ ...work, carryOut: () => void carryOut() });
    } catch (error) {
      this.#bodies.free(body);
      throw error;
    }
  }

  async #answer(
    response: ServerResponse,
    { endpoint, ...routed }: RoutedRequest,
    body: Buffer,
  ): Promise<void> {
    if (response.destroyed) return;
    const { keeper, canary = null } = this.#parts;
    const choice = new BundleChoice(keeper.current, canary, body);
    const bundleFor: ReceivedRequest['bundleFor'] = (asked) => choice.choose(asked);
    const request = { ...routed, bundle: choice.stable, bundleFor, body, server: this.#view };
    try {
      const answered = endpoint.answer(request);
      const answer = answered instanceof Promise ? await answered : answered;
      if (endpoint.method === 'POST') {
        const { path, isRecorded = false } = endpoint;
        if (isRecorded) this.#parts.recorded?.take({ ...request, path });
        this.#counts.answer(choice.chosen.digest);
      }
      this.#send(response, 200, answer);
    } catch (error) {
      if (endpoint.method === 'POST') this.#counts.refuseBy(choice.chosen.digest);
      this.#refuse(response, error);
    } finally {
      choice.release();
    }
  }

  #refuse(response: ServerResponse, error: unknown): void {
    if (!(error instanceof RefusedRequest))
      this.#parts.onEvent({
        kind: 'request-failed',
        reason: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    const refusal = error instanceof RefusedRequest ? error.refusal : BUG;
    this.#counts.refuse(refusal.reason);
    const status = statusOf(refusal);
    if (status === 429 || status === 503) response.setHeader('Retry-After', '1');
    if (status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
    this.#send(response, status, { mediaType: PROBLEM_TYPE, content: problemOf(refusal) });
  }

  #send(response: ServerResponse, status: number, answer: Answer): void {
    const { mediaType, content, headers, written } = answer;
    if (response.destroyed || response.headersSent) return;
    if (this.#isDraining) response.setHeader('Connection', 'close');
    response.writeHead(status, {
      ...headers,
      'Content-Type': mediaType,
      'Content-Length': Buffer.byteLength(content),
    });
    response.end(content, written);
  }

  /** A request that Node could not read: slow, too large a head, or no HTTP. */
  #answerUnread(error: NodeJS.ErrnoException, socket: Socket): void {
    const refusal = unreadOf(error.code ?? '');
    this.#counts.refuse(refusal.reason);
    if (!socket.writable || socket.destroyed) {
      socket.destroy();
      return;
    }
    const text = problemOf(refusal);
    const status = statusOf(refusal);
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
      `Content-Type: ${PROBLEM_TYPE}`,
      `Content-Length: ${Buffer.byteLength(text)}`,
      'Connection: close',
    ];
    socket.end(`${head.join('\r\n')}\r\n\r\n${text}`, () => socket.destroy());
  }
}

const PROBLEM_TYPE = 'application/problem+json';
const BUG: Refusal = {
  reason: 'bug',
  what: 'the request ran into a bug of the server, which has reported it',
};

function unreadOf(code: string): Refusal {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return {
      reason: 'too-slow',
      what: 'the request did not arrive in time',
      expected: `headers and body within ${REQUEST_TIMEOUT_MS} ms`,
    };
  if (code === 'HPE_HEADER_OVERFLOW')
    return { reason: 'headers-too-large', what: 'the headers of the request are too large' };
  return { reason: 'malformed', what: 'this is not a request of HTTP/1.1', found: code };
}
