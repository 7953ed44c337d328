/**
 * The HTTP server of rankings: it receives requests within bounds, lets them wait for their turn, and
 * has them answered by its endpoints. Nothing that a request says names a file or an address.
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import {
  createServer,
  STATUS_CODES,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  type IncomingHttpHeaders,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../../../../shared/base/clock.js';
import { type RunEventSink, noticeEvent } from '../../../../shared/events/run-events.js';
import { listening } from '../../../../shared/network/listening.js';
import { BundleChoice } from '../../bundle-choice.js';
import {
  keptAnswer,
  type Answer,
  type Endpoint,
  type KeptBundle,
  type ReceivedRequest,
  type ServerView,
  type ServingPlace,
} from '../endpoint.js';
import { freeMemory } from '../../freed-memory.js';
import { BodyReceiver } from '../received-body.js';
import {
  PROBLEM_TYPE,
  problemOf,
  RefusedRequest,
  statusOf,
  type Refusal,
  type RefusalReason,
} from '../refused-request.js';
import { RequestCounts, type RequestReport } from '../request-counts.js';
import { RouteTable } from '../route-table.js';
import { HandedConnections } from './handed-connections.js';
import { PlainConnections, type Exchange, type PlainRequest } from './plain-connection.js';
import type { PlainHead } from './plain-head.js';
import {
  CONNECTIONS_MAX,
  DEADLINE_MS_MAX,
  DRAIN_MS_MAX,
  EXPLAINED_DEFAULT,
  HEADERS_TIMEOUT_MS,
  KEEP_ALIVE_MS,
  REQUEST_TIMEOUT_MS,
} from '../server-limits.js';
import { WorkQueue } from '../work-queue.js';
import { counted } from '../../../../shared/names/counted.js';

interface AnswerSettings {
  /** Demanded of every request but those of health; null demands none. */
  readonly token: string | null;
  readonly queuedRequestsMax: number;
  readonly deadlineMs: number;
  /** Candidates of a request that are explained. */
  readonly explainedMax?: number;
  /** For the headers and the body of a request. */
  readonly requestTimeoutMs?: number;
}

/** The settings of a server that takes connections itself. */
export interface ServerSettings extends AnswerSettings {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
}

interface ServerParts {
  readonly keeper: KeptBundle;
  readonly canary?: ServerView['canary'];
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

/** One whose body is received and waits for its turn. */
interface AcceptedRequest {
  readonly routed: RoutedRequest;
  readonly deadlineMs: number;
}

interface ReceivedBody {
  readonly body: Buffer;
  readonly arrivalMs: number;
  /** Gives the body back. */
  readonly release: () => void;
}

const NO_BODY = Buffer.alloc(0);

export class RankingServer {
  readonly #parts: ServerParts;
  readonly #settings: AnswerSettings;
  readonly #server: Server;
  readonly #handed: HandedConnections;
  readonly #routes: RouteTable;
  readonly #queue: WorkQueue;
  readonly #bodies: BodyReceiver;
  readonly #plain: PlainConnections<AcceptedRequest>;
  readonly #counts = new RequestCounts();
  readonly #view: ServerView;
  /** A set of them would be rebuilt every few requests, and the tables that it has left keep answers alive. */
  #underWayCount = 0;
  #isDraining = false;
  #url = '';

  private constructor(parts: ServerParts, settings: AnswerSettings) {
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
        ...{ keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout },
        headersTimeout: Math.min(HEADERS_TIMEOUT_MS, requestTimeout),
        connectionsCheckingInterval: Math.min(500, requestTimeout),
      },
      (request, response) => void this.#take(request, response),
    );
    this.#handed = new HandedConnections(this.#server);
    this.#plain = this.#plainConnections();
    const { keeper, canary = null, placeOf = () => null } = parts;
    const isDraining = (): boolean => this.#isDraining;
    this.#view = {
      ...{ keeper, canary, explainedMax: settings.explainedMax ?? EXPLAINED_DEFAULT },
      requestReport: () => this.requestReport(),
      get isDraining() {
        return isDraining();
      },
      get processes() {
        return placeOf();
      },
    };
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.on('clientError', (error: Error, socket: Socket) => {
      this.#counts.refuse(answerUnread(error, socket));
    });
  }

  /** Connections begin as plain ones, and go on with node:http at the first request that is not. */
  #plainConnections(): PlainConnections<AcceptedRequest> {
    const readByNode = this.#server.listeners('connection');
    this.#server.removeAllListeners('connection');
    this.#server.on('connection', (socket: Socket) => this.#plain.take(socket));
    return new PlainConnections({
      ...{ clock: this.#parts.clock, bodies: this.#bodies },
      addon: () => this.#parts.keeper.current.choice.addon,
      accept: (head) => this.#acceptedPlain(head),
      carryOut: (request) => this.#takePlain(request),
      ended: (request, status) => this.#endPlain(request, status),
      handOver: (socket) => {
        for (const listener of readByNode) Reflect.apply(listener, this.#server, [socket]);
      },
      ...{ keepAliveMs: KEEP_ALIVE_MS, isDraining: () => this.#isDraining },
    });
  }

  /** @throws QianmoError of kind `environment` if the port is taken. */
  static async listen(parts: ServerParts, settings: ServerSettings): Promise<RankingServer> {
    const server = new RankingServer(parts, settings);
    const failure = { what: 'the server cannot listen', option: '--port' };
    server.#url = await listening(server.#server, settings, failure);
    void server.#plain.watch();
    return server;
  }

  /** One that listens nowhere: another process accepts its connections. */
  static ofHanded(parts: ServerParts, settings: AnswerSettings): RankingServer {
    const server = new RankingServer(parts, settings);
    server.#handed.begin();
    void server.#plain.watch();
    return server;
  }

  /** Takes a connection that another process has accepted, unless it takes no more. */
  take(socket: Socket): void {
    this.#handed.take(socket);
  }

  /** Outcomes of requests. */
  requestReport(): RequestReport {
    return { waiting: this.#queue.length, ...this.#counts.report() };
  }

  /** Empty where it does not listen itself. */
  get url(): string {
    return this.#url;
  }

  /** Takes no more requests, answers those under way, and closes. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    const { clock, onEvent } = this.#parts;
    onEvent(
      noticeEvent(
        'server-draining',
        `stopping after ${counted(this.#underWayCount, 'request')} under way`,
      ),
    );
    const accepted = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const closed = Promise.all([accepted, this.#handed.closed()]);
    this.#server.closeIdleConnections();
    this.#plain.drain();
    const drained = new AbortController();
    const late = clock.sleep(DRAIN_MS_MAX, drained.signal);
    await Promise.race([closed, late]);
    drained.abort();
    this.#server.closeAllConnections();
    this.#plain.close();
    await closed;
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
    const exchange = new NodeExchange(response, () => this.#isDraining);
    try {
      await this.#route(request, exchange, arrival);
    } catch (error) {
      this.#refuse(exchange, error);
    }
  }

  async #route(
    request: IncomingMessage,
    exchange: Exchange,
    arrival: { readonly atMs: number; route: string },
  ): Promise<void> {
    const { headers } = request;
    const { endpoint, parameters } = this.#routes.routeOf(request.method ?? '', request.url ?? '');
    arrival.route = endpoint.path;
    const isOpen = endpoint.method === 'GET' && endpoint.isOpen === true;
    if (!isOpen) requireToken(headers, this.#settings.token);
    if (endpoint.method === 'GET') {
      await this.#answer(exchange, { endpoint, headers, parameters, mediaType: '' }, NO_BODY);
      return;
    }
    const accepted = this.#accepted(endpoint, headers, parameters);
    const body = await this.#bodies.receive(request);
    if (body === null) return;
    const release = (): void => this.#bodies.free(body);
    this.#enqueue(exchange, accepted, { body, arrivalMs: arrival.atMs, release });
  }

  /** @throws RefusedRequest if a header says what the endpoint does not take. */
  #accepted(
    endpoint: Extract<Endpoint, { readonly method: 'POST' }>,
    headers: ReceivedRequest['headers'],
    parameters: ReceivedRequest['parameters'],
  ): AcceptedRequest {
    const mediaType = demandMediaType(headers, endpoint.mediaTypes);
    const deadlineMs = deadlineOf(headers, this.#settings.deadlineMs);
    const routed = { endpoint, headers, parameters, mediaType };
    return { routed, deadlineMs };
  }

  /** Null for what is refused before its body is received. */
  #acceptedPlain({ url, headers }: PlainHead): AcceptedRequest | null {
    try {
      const { endpoint, parameters } = this.#routes.routeOf('POST', url);
      if (endpoint.method !== 'POST') return null;
      requireToken(headers, this.#settings.token);
      return this.#accepted(endpoint, headers, parameters);
    } catch (error) {
      if (error instanceof RefusedRequest) return null;
      throw error;
    }
  }

  #takePlain(request: PlainRequest<AcceptedRequest>): void {
    this.#underWayCount += 1;
    try {
      this.#enqueue(request.exchange, request.accepted, request);
    } catch (error) {
      this.#refuse(request.exchange, error);
    }
  }

  #endPlain({ accepted, arrivalMs }: PlainRequest<AcceptedRequest>, status: number | null): void {
    this.#underWayCount -= 1;
    if (status === null) this.#counts.abandon();
    this.#parts.onRequest?.({
      ...{ route: accepted.routed.endpoint.path, status: status ?? 200 },
      durationMs: this.#parts.clock.monotonicMs() - arrivalMs,
    });
  }

  /** @throws RefusedRequest where the queue does not take it; the body is given back. */
  #enqueue(
    exchange: Exchange,
    { routed, deadlineMs }: AcceptedRequest,
    { body, arrivalMs, release }: ReceivedBody,
  ): void {
    const carryOut = (): void => {
      const answering = this.#answer(exchange, routed, body, arrivalMs + deadlineMs);
      if (answering === null) release();
      else void answering.then(release);
    };
    const refuse = (refused: RefusedRequest): void => {
      release();
      this.#refuse(exchange, refused);
    };
    try {
      this.#queue.add({ arrivalMs, deadlineMs, refuse, carryOut });
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Null where the answer is given; otherwise a promise that it is. */
  #answer(
    exchange: Exchange,
    { endpoint, headers, parameters, mediaType }: RoutedRequest,
    body: Buffer,
    deadlineAtMs = Infinity,
  ): Promise<void> | null {
    if (exchange.isOver) return null;
    const { keeper, canary = null } = this.#parts;
    const choice = new BundleChoice(keeper.current, canary, body);
    const bundleFor: ReceivedRequest['bundleFor'] = (wish) => choice.choose(wish);
    const [bundle, server] = [choice.stable, this.#view];
    // prettier-ignore
    const request: ReceivedRequest = {
      headers, parameters, mediaType, body, deadlineAtMs, bundle, bundleFor, server,
    };
    const send = (answer: Answer): void => {
      if (endpoint.method === 'POST') this.#counts.answer(choice.chosen.digest);
      exchange.send(200, answer);
    };
    const refuse = (error: unknown): void => {
      if (endpoint.method === 'POST') this.#counts.refuseBy(choice.chosen.digest);
      this.#refuse(exchange, error);
    };
    let answering: Promise<void> | null = null;
    try {
      const answered = endpoint.answer(request);
      if (!(answered instanceof Promise)) send(answered);
      else answering = answered.then(send).catch(refuse);
    } catch (error) {
      refuse(error);
    }
    if (answering === null) choice.release();
    return answering?.finally(() => choice.release()) ?? null;
  }

  #refuse(exchange: Exchange, error: unknown): void {
    if (!(error instanceof RefusedRequest))
      this.#parts.onEvent({
        kind: 'request-failed',
        reason: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    const refusal = error instanceof RefusedRequest ? error.refusal : BUG;
    this.#counts.refuse(refusal.reason);
    const status = statusOf(refusal);
    const answer = { mediaType: PROBLEM_TYPE, content: problemOf(refusal) };
    exchange.send(status, answer, {
      ...(status === 429 || status === 503 ? { 'Retry-After': '1' } : {}),
      ...(status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
    });
  }
}

const BUG: Refusal = {
  reason: 'bug',
  what: 'the request ran into a bug of the server, which has reported it',
};

/** An exchange that node:http has read. */
class NodeExchange implements Exchange {
  readonly #response: ServerResponse;
  readonly #isDraining: () => boolean;

  constructor(response: ServerResponse, isDraining: () => boolean) {
    this.#response = response;
    this.#isDraining = isDraining;
  }

  get isOver(): boolean {
    return this.#response.destroyed || this.#response.headersSent;
  }

  send(status: number, answer: Answer, others: Readonly<Record<string, string>> = {}): void {
    if (this.isOver) return;
    const { mediaType, content } = keptAnswer(answer);
    this.#response.writeHead(status, {
      ...others,
      ...(this.#isDraining() ? { Connection: 'close' } : {}),
      'Content-Type': mediaType,
      'Content-Length': Buffer.byteLength(content),
    });
    this.#response.end(content);
  }
}

/**
 * Answers a request that node:http could not read: slow, too large a head, or no HTTP. Closes the connection, and returns what
 * is counted.
 */
function answerUnread(error: NodeJS.ErrnoException, socket: Socket): RefusalReason {
  const refusal = unreadOf(error.code ?? '');
  if (!socket.writable || socket.destroyed) {
    socket.destroy();
    return refusal.reason;
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
  return refusal.reason;
}

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

const DEADLINE_HEADER = 'qianmo-deadline-ms';

/** Digests have one length, whatever was sent. */
function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** @param token null where none is demanded. */
function requireToken(headers: IncomingHttpHeaders, token: string | null): void {
  if (token === null) return;
  const found = headers.authorization ?? '';
  if (timingSafeEqual(digestOf(found), digestOf(`Bearer ${token}`))) return;
  throw new RefusedRequest({
    reason: 'unauthorised',
    what: 'the request has no token, or another one',
    where: 'header Authorization',
    expected: 'Bearer and the token that the server was started with',
    cure: 'ask whoever runs the server for the token',
  });
}

/**
 * The type of the body, without its parameters. A page of another site can send a form or plain text
 * without asking, so that no endpoint should take those.
 */
function demandMediaType(headers: IncomingHttpHeaders, mediaTypes: readonly string[]): string {
  const type = headers['content-type'] ?? '';
  const encoding = headers['content-encoding'] ?? 'identity';
  const mediaType = (type.split(';', 1)[0] ?? '').trim().toLowerCase();
  if (mediaTypes.includes(mediaType) && encoding === 'identity') return mediaType;
  throw new RefusedRequest({
    reason: 'wrong-content-type',
    what: 'the body is of another type, or compressed',
    where: encoding === 'identity' ? 'header Content-Type' : 'header Content-Encoding',
    expected: `Content-Type ${mediaTypes.join(' or ')}, not compressed`,
    found: encoding === 'identity' ? type : encoding,
  });
}

/** How long the request may wait: what it asks for, but no longer than the server says. */
function deadlineOf(headers: IncomingHttpHeaders, ofServerMs: number): number {
  const text = headers[DEADLINE_HEADER];
  if (text === undefined) return ofServerMs;
  const askedMs = typeof text === 'string' && /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (askedMs >= 1 && askedMs <= DEADLINE_MS_MAX) return Math.min(askedMs, ofServerMs);
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the deadline is not a number of milliseconds',
    where: `header ${DEADLINE_HEADER}`,
    expected: `a whole number from 1 to ${DEADLINE_MS_MAX}`,
    found: String(text),
  });
}
