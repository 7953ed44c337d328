/**
 * The HTTP server of rankings: it receives requests within bounds, lets them wait for their turn, and
 * has them answered by its endpoints. Nothing that a request says names a file or an address.
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  type IncomingHttpHeaders,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../../../shared/base/clock.js';
import { type RunEventSink, noticeEvent } from '../../../shared/events/run-events.js';
import { printableText } from '../../../shared/base/printable-text.js';
import { counted } from '../../../shared/names/counted.js';
import { listening } from '../../../shared/network/listening.js';
import { isOfCanary } from './bundle-keeper.js';
import {
  keptAnswer,
  RouteTable,
  type Answer,
  type Endpoint,
  type ReceivedRequest,
  type RequestReport,
  type ServerView,
  type ServingPlace,
} from './endpoint.js';
import { PlainConnections, type Exchange, type PlainHead } from './plain-connection.js';
import {
  RefusedRequest,
  STATUS_BY_REASON,
  type Refusal,
  type RefusalReason,
  refusalOf,
} from './refused-request.js';
import {
  CONNECTIONS_MAX,
  DEADLINE_MS_MAX,
  DRAIN_MS_MAX,
  EXPLAINED_DEFAULT,
} from './server-limits.js';
import { WorkQueue } from './work-queue.js';

interface AnswerSettings {
  /** Demanded of every request but those of health; null demands none. */
  readonly token: string | null;
  /** Demanded of requests that change what is served; that of the others if absent. */
  readonly writeToken?: string | null;
  readonly queuedRequestsMax: number;
  readonly deadlineMs: number;
  /** Candidates of a request that are explained. */
  readonly explainedMax?: number;
  /** For the headers and the body of a request. */
  readonly requestTimeoutMs?: number;
}

/** The settings of a server that takes connections itself. */
interface ServerSettings extends AnswerSettings {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
}

interface ServerParts extends Pick<ServerView, 'keeper'> {
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
interface RoutedRequest extends Pick<ReceivedRequest, 'headers' | 'parameter' | 'mediaType'> {
  readonly endpoint: Endpoint;
  readonly deadlineMs: number;
}

interface ReceivedBody {
  readonly body: Buffer;
  readonly arrivalMs: number;
  /** Gives the body back. */
  readonly release: () => void;
}

/** Bytes of the body of a request. */
const BODY_BYTE_COUNT_MAX = 8 * 2 ** 20;
/** Bytes of all bodies that are being received or wait. */
const BODIES_BYTE_COUNT_MAX = 256 * 2 ** 20;
/** Requests whose bodies are being received. */
const RECEIVED_REQUESTS_MAX = 1_024;
/** Pools of clients and proxies keep connections for a minute or less. */
const KEEP_ALIVE_MS = 75_000;
const HEADERS_TIMEOUT_MS = 5_000;

/** Headers and body. */
const REQUEST_TIMEOUT_MS = 10_000;

const NO_BODY = Buffer.alloc(0);
/** Bundles that are counted by themselves, the last that answered. */
const COUNTED_BUNDLES_MAX = 16;

export class RankingServer {
  readonly #parts: ServerParts;
  readonly #settings: AnswerSettings;
  readonly #server: Server;
  readonly #routes: RouteTable;
  readonly #queue: WorkQueue;
  readonly #plain: PlainConnections<RoutedRequest>;
  readonly #view: ServerView;
  readonly #refused = new Map<RefusalReason, number>();
  readonly #byBundle = new Map<string, { answered: number; refused: number }>();
  #answeredCount = 0;
  #abandonedCount = 0;
  /** A set of them would be rebuilt every few requests, and the tables that it has left keep answers alive. */
  #underWayCount = 0;
  /** Bytes of all bodies that are being received or wait. */
  #bodiesByteCount = 0;
  /** Requests whose bodies node:http receives. */
  #receivedCount = 0;
  /** Open connections that another process has accepted: node:http neither counts them nor waits for them. */
  #handedCount = 0;
  #onNoneHanded: () => void = () => undefined;
  #isDraining = false;
  #url = '';

  private constructor(parts: ServerParts, settings: AnswerSettings) {
    this.#parts = parts;
    this.#settings = settings;
    this.#routes = new RouteTable(parts.endpoints);
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
  }

  /** Connections begin as plain ones, and go on with node:http at the first request that is not. */
  #plainConnections(): PlainConnections<RoutedRequest> {
    const readByNode = this.#server.listeners('connection');
    this.#server.removeAllListeners('connection');
    this.#server.on('connection', (socket: Socket) => this.#plain.take(socket));
    return new PlainConnections({
      clock: this.#parts.clock,
      reserve: (byteCount) => {
        if (this.#bodiesByteCount + byteCount > BODIES_BYTE_COUNT_MAX) return false;
        this.#bodiesByteCount += byteCount;
        return true;
      },
      giveBack: (byteCount) => (this.#bodiesByteCount -= byteCount),
      freeMemory: (bytes) => this.#freeMemory(bytes),
      accept: (head) => this.#acceptPlain(head),
      carryOut: (request) => {
        this.#underWayCount += 1;
        this.#enqueue(request.exchange, request.accepted, request);
      },
      ended: ({ accepted, arrivalMs }, status) =>
        this.#end(
          { route: accepted.endpoint.path, atMs: arrivalMs },
          status ?? 200,
          status !== null,
        ),
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
    // Has node:http look after time, as one does that listens.
    server.#server.emit('listening');
    void server.#plain.watch();
    return server;
  }

  /** Takes a connection that another process has accepted. Those beyond the bound and those that come late are closed. */
  take(socket: Socket): void {
    if (this.#isDraining || this.#handedCount >= CONNECTIONS_MAX) {
      socket.destroy();
      return;
    }
    this.#handedCount += 1;
    socket.once('close', () => {
      this.#handedCount -= 1;
      if (this.#handedCount === 0) this.#onNoneHanded();
    });
    // A server of node:http accepts connections so.
    socket.allowHalfOpen = true;
    this.#server.emit('connection', socket);
  }

  /** Outcomes of requests. */
  requestReport(): RequestReport {
    return {
      ...{ waiting: this.#queue.length, answered: this.#answeredCount },
      abandoned: this.#abandonedCount,
      refused: Object.fromEntries(this.#refused),
      byBundle: Object.fromEntries(this.#byBundle),
    };
  }

  #countRefusal(reason: RefusalReason): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
  }

  #countFor(bundle: string, outcome: 'answered' | 'refused'): void {
    let counts = this.#byBundle.get(bundle);
    if (counts === undefined) {
      const [oldest] = this.#byBundle.keys();
      if (oldest !== undefined && this.#byBundle.size >= COUNTED_BUNDLES_MAX)
        this.#byBundle.delete(oldest);
      counts = { answered: 0, refused: 0 };
      this.#byBundle.set(bundle, counts);
    }
    counts[outcome] += 1;
  }

  /** Empty where it does not listen itself. */
  get url(): string {
    return this.#url;
  }

  /** Takes no more requests, answers those under way, and closes. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    const { clock, onEvent } = this.#parts;
    const text = `stopping after ${counted(this.#underWayCount, 'request')} under way`;
    onEvent(noticeEvent('server-draining', text));
    const accepted = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const handed = new Promise<void>((resolve) => {
      this.#onNoneHanded = resolve;
      if (this.#handedCount === 0) resolve();
    });
    const closed = Promise.all([accepted, handed]);
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
    const arrival = { atMs: this.#parts.clock.monotonicMs(), route: 'none' };
    this.#underWayCount += 1;
    response.once('close', () =>
      this.#end(arrival, response.statusCode, response.writableFinished),
    );
    const exchange = new NodeExchange(response, () => this.#isDraining);
    try {
      const { headers } = request;
      if ((request.headersDistinct['host'] ?? []).length > 1) throw twoHosts();
      const found = this.#routes.routeOf(request.method ?? '', request.url ?? '');
      arrival.route = found.endpoint.path;
      const routed = this.#routed(found, headers);
      if (found.endpoint.method === 'GET') {
        await this.#answer(exchange, routed, NO_BODY);
        return;
      }
      const body = await this.#receive(request);
      if (body === null) return;
      const release = (): void => {
        this.#bodiesByteCount -= body.byteLength;
        this.#freeMemory(body);
      };
      this.#enqueue(exchange, routed, { body, arrivalMs: arrival.atMs, release });
    } catch (error) {
      this.#refuse(exchange, error);
    }
  }

  #end(
    arrival: { readonly atMs: number; readonly route: string },
    status: number,
    isAnswered: boolean,
  ): void {
    this.#underWayCount -= 1;
    if (!isAnswered) this.#abandonedCount += 1;
    const durationMs = this.#parts.clock.monotonicMs() - arrival.atMs;
    this.#parts.onRequest?.({ route: arrival.route, status, durationMs });
  }

  /** @throws RefusedRequest if a header says what the endpoint does not take. */
  #routed(
    { endpoint, parameter }: ReturnType<RouteTable['routeOf']>,
    headers: IncomingHttpHeaders,
  ): RoutedRequest {
    const isRead = endpoint.method === 'GET';
    const { token, writeToken = token } = this.#settings;
    if (!isRead || endpoint.isOpen !== true)
      requireToken(headers, !isRead && endpoint.isWrite === true ? writeToken : token);
    const mediaType = isRead ? '' : mediaTypeIn(headers, endpoint.mediaTypes);
    const deadlineMs = isRead ? Infinity : deadlineIn(headers, this.#settings.deadlineMs);
    return { endpoint, parameter, headers, mediaType, deadlineMs };
  }

  /** Null for what is refused before its body is received. */
  #acceptPlain({ url, headers }: PlainHead): RoutedRequest | null {
    try {
      const found = this.#routes.routeOf('POST', url);
      return found.endpoint.method === 'POST' ? this.#routed(found, headers) : null;
    } catch (error) {
      if (error instanceof RefusedRequest) return null;
      throw error;
    }
  }

  /** Receives a body within bounds. Null if the client went away. */
  async #receive(request: IncomingMessage): Promise<Buffer | null> {
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced > BODY_BYTE_COUNT_MAX) throw tooLarge(`${announced} bytes`);
    if (this.#receivedCount >= RECEIVED_REQUESTS_MAX)
      throw tooMany(`${RECEIVED_REQUESTS_MAX} requests at once`);
    this.#receivedCount += 1;
    const chunks: Buffer[] = [];
    let byteCount = 0;
    try {
      const isWhole = await new Promise<boolean>((resolve, reject) => {
        request.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          byteCount += chunk.byteLength;
          this.#bodiesByteCount += chunk.byteLength;
          if (byteCount > BODY_BYTE_COUNT_MAX)
            reject(tooLarge(`more than ${BODY_BYTE_COUNT_MAX} bytes`));
          else if (this.#bodiesByteCount > BODIES_BYTE_COUNT_MAX)
            reject(tooMany(`${BODIES_BYTE_COUNT_MAX} bytes of all bodies`));
        });
        request.once('end', () => resolve(true)).once('close', () => resolve(false));
        request.on('error', () => undefined);
      });
      if (isWhole) {
        const [first] = chunks;
        if (first !== undefined && chunks.length === 1) return first;
        const body = Buffer.concat(chunks, byteCount);
        for (const chunk of chunks) this.#freeMemory(chunk);
        return body;
      }
      this.#bodiesByteCount -= byteCount;
      return null;
    } catch (error) {
      this.#bodiesByteCount -= byteCount;
      // The rest is received and forgotten, so that the client reads the answer.
      request.removeAllListeners('data').resume();
      throw error;
    } finally {
      this.#receivedCount -= 1;
    }
  }

  /**
   * Empties bytes that have an array buffer of their own. Left to the garbage collector they count as growth of the old
   * generation: every few hundred requests all of it was marked, for up to twenty milliseconds.
   */
  #freeMemory({ buffer, byteLength }: Uint8Array): void {
    const isOwn = byteLength > 0 && buffer.byteLength === byteLength;
    if (isOwn && buffer instanceof ArrayBuffer) this.#parts.keeper.current.addon.detach(buffer);
  }

  #enqueue(
    exchange: Exchange,
    routed: RoutedRequest,
    { body, arrivalMs, release }: ReceivedBody,
  ): void {
    const { deadlineMs } = routed;
    const carryOut = (): void => {
      const answering = this.#answer(exchange, routed, body, arrivalMs + deadlineMs);
      if (answering === null) release();
      else void answering.then(release);
    };
    const refuse = (refused: unknown): void => {
      release();
      this.#refuse(exchange, refused);
    };
    try {
      this.#queue.add({ arrivalMs, deadlineMs, refuse, carryOut });
    } catch (error) {
      refuse(error);
    }
  }

  /** Null where the answer is given; otherwise a promise that it is. */
  #answer(
    exchange: Exchange,
    { endpoint, headers, parameter, mediaType }: RoutedRequest,
    body: Buffer,
    deadlineAtMs = Infinity,
  ): Promise<void> | null {
    if (exchange.isOver) return null;
    const bundle = this.#parts.keeper.current;
    const canary = this.#parts.canary?.current ?? null;
    const share = this.#parts.canary?.share ?? 0;
    const releases = canary === null ? [bundle.hold()] : [bundle.hold(), canary.hold()];
    const release = (): void => {
      for (const each of releases) each();
    };
    let chosen = bundle;
    const bundleFor: ReceivedRequest['bundleFor'] = ({ bundle: named, requestKey }) => {
      if (canary === null) return bundle;
      const isDrawn = named === null && isOfCanary(canary.digest, share, requestKey ?? body);
      if (isDrawn || named === canary.digest) chosen = canary;
      return chosen;
    };
    // prettier-ignore
    const request: ReceivedRequest = {
      headers, parameter, mediaType, body, deadlineAtMs, bundle, bundleFor, server: this.#view,
    };
    const isPost = endpoint.method === 'POST';
    const send = (answer: Answer): void => {
      if (isPost) {
        this.#answeredCount += 1;
        this.#countFor(chosen.digest, 'answered');
      }
      exchange.send(200, answer);
    };
    const refuse = (error: unknown): void => {
      if (isPost) this.#countFor(chosen.digest, 'refused');
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
    if (answering === null) release();
    return answering?.finally(release) ?? null;
  }

  #refuse(exchange: Exchange, error: unknown): void {
    if (!(error instanceof RefusedRequest))
      this.#parts.onEvent({
        kind: 'request-failed',
        reason: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    const refusal = error instanceof RefusedRequest ? error.refusal : BUG;
    this.#countRefusal(refusal.reason);
    const status = STATUS_BY_REASON[refusal.reason];
    const answer = { mediaType: 'application/problem+json', content: problemOf(refusal) };
    exchange.send(status, answer, {
      ...(status === 429 || status === 503 ? { 'Retry-After': '1' } : {}),
      ...(status === 405 ? { Allow: refusal.expected ?? '' } : {}),
      ...(status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
    });
  }
}

const PART_LENGTH_MAX = 2_000;

/** The problem in the form of RFC 9457. */
function problemOf(refusal: Refusal): string {
  const { reason, what, ...parts } = refusal;
  const shown = Object.entries(parts).flatMap(([name, text]: [string, string | undefined]) =>
    text === undefined ? [] : [[name, printableText(text).slice(0, PART_LENGTH_MAX)]],
  );
  return JSON.stringify({
    ...{ type: `urn:qianmo:${reason}`, status: STATUS_BY_REASON[reason], reason },
    what: printableText(what).slice(0, PART_LENGTH_MAX),
    ...(Object.fromEntries(shown) as Readonly<Record<string, string>>),
  });
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
  throw refusalOf('unauthorised', 'the request has no token, or another one', {
    where: 'header Authorization',
    expected: 'Bearer and the token that the server was started with, for writes its own',
    cure: 'ask whoever runs the server for the token',
  });
}

/**
 * The type of the body, without its parameters. A page of another site can send a form or plain text
 * without asking, so that no endpoint should take those.
 */
function mediaTypeIn(headers: IncomingHttpHeaders, mediaTypes: readonly string[]): string {
  const type = headers['content-type'] ?? '';
  const encoding = headers['content-encoding'] ?? 'identity';
  const mediaType = (type.split(';', 1)[0] ?? '').trim().toLowerCase();
  if (mediaTypes.includes(mediaType) && encoding === 'identity') return mediaType;
  throw refusalOf('wrong-content-type', 'the body is of another type, or compressed', {
    where: encoding === 'identity' ? 'header Content-Type' : 'header Content-Encoding',
    expected: `Content-Type ${mediaTypes.join(' or ')}, not compressed`,
    found: encoding === 'identity' ? type : encoding,
  });
}

/** How long the request may wait: what it asks for, but no longer than the server says. */
function deadlineIn(headers: IncomingHttpHeaders, ofServerMs: number): number {
  const text = headers[DEADLINE_HEADER];
  if (text === undefined) return ofServerMs;
  const askedMs = typeof text === 'string' && /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (askedMs >= 1 && askedMs <= DEADLINE_MS_MAX) return Math.min(askedMs, ofServerMs);
  throw refusalOf('wrong-value', 'the deadline is not a number of milliseconds', {
    where: `header ${DEADLINE_HEADER}`,
    expected: `a whole number from 1 to ${DEADLINE_MS_MAX}`,
    found: String(text),
  });
}

/** RFC 9112: servers and proxies that choose different ones would see different requests. */
function twoHosts(): RefusedRequest {
  return new RefusedRequest({ reason: 'malformed', what: 'the request names two hosts' });
}

function tooLarge(found: string): RefusedRequest {
  return refusalOf('too-large', 'the body is too large', {
    expected: `at most ${BODY_BYTE_COUNT_MAX} bytes`,
    found,
    cure: 'send fewer candidates, or send them in binary',
  });
}

function tooMany(expected: string): RefusedRequest {
  return refusalOf('too-many-bodies', 'too many bodies are being received', {
    expected: `at most ${expected}`,
    cure: 'ask again later, or start more servers',
  });
}
