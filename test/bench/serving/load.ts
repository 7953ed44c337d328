/**
 * Load on a server over connections that are kept. In an open loop requests are due at times drawn
 * beforehand, whatever the server does, and a latency begins when a request is due: a server that stalls
 * is charged for all that it kept waiting (no coordinated omission).
 */

import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { at } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';
import { randomStream } from '../../../shared/base/random.js';
import type { BenchRequest } from './server-setting.js';

const HEAD_END = Buffer.from('\r\n\r\n');

/** A request with its head, as it goes over the wire. */
export function wireRequest({ mediaType, body }: BenchRequest, host: string): Buffer {
  const head = [
    ...['POST /v1/rank HTTP/1.1', `Host: ${host}`, `Content-Type: ${mediaType}`],
    `Content-Length: ${body.length}`,
  ];
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]);
}

/** Called with all that the server sent, valid until the next request: the head of its answer and the content. */
type Answered = (answer: Buffer) => void;

/**
 * Every read of every connection goes here first: a buffer of its own for each read, as sockets have otherwise, is garbage that
 * stops the client for up to 14 ms, and with it all requests that are due meanwhile.
 */
const read = Buffer.allocUnsafeSlow(65_536);
const SUCCESS = Buffer.from('HTTP/1.1 200');

export function isSuccess(answer: Buffer): boolean {
  return answer.compare(SUCCESS, 0, SUCCESS.length, 0, SUCCESS.length) === 0;
}

/** @throws Error that has the answer if it is a refusal */
export function requireSuccess(answer: Buffer): void {
  if (!isSuccess(answer)) throw new Error(`the server answered ${answer.toString()}`);
}

/** The bytes after the head. */
export function contentOf(answer: Buffer): Buffer {
  return answer.subarray(answer.indexOf(HEAD_END) + HEAD_END.length);
}

/** One request at a time. */
export class Connection {
  readonly #socket: Socket;
  #received = Buffer.allocUnsafeSlow(read.length);
  #receivedCount = 0;
  #expectedCount = 0;
  #answered: Answered | null = null;

  private constructor(url: URL) {
    this.#socket = connect({
      ...{ host: url.hostname, port: Number(url.port), noDelay: true },
      onread: {
        buffer: read,
        callback: (byteCount) => {
          this.#take(byteCount);
          return true;
        },
      },
    });
  }

  static async open(url: string): Promise<Connection> {
    const connection = new Connection(new URL(url));
    await once(connection.#socket, 'connect');
    return connection;
  }

  send(request: Buffer, answered: Answered): void {
    this.#answered = answered;
    this.#socket.write(request);
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(byteCount: number): void {
    const end = this.#receivedCount + byteCount;
    if (end > this.#received.length) {
      const larger = Buffer.allocUnsafeSlow(2 * end);
      this.#received.copy(larger, 0, 0, this.#receivedCount);
      this.#received = larger;
    }
    read.copy(this.#received, this.#receivedCount, 0, byteCount);
    this.#receivedCount = end;
    if (this.#expectedCount === 0) this.#expectedCount = this.#announced();
    if (this.#expectedCount === 0 || end < this.#expectedCount) return;
    this.#receivedCount = 0;
    this.#expectedCount = 0;
    this.#answered?.(this.#received.subarray(0, end));
  }

  /** Bytes of the answer with its head; 0 as long as the head is not there. */
  #announced(): number {
    const bytes = this.#received.subarray(0, this.#receivedCount);
    const headEnd = bytes.indexOf(HEAD_END);
    if (headEnd < 0) return 0;
    const length = /content-length: (\d+)/i.exec(bytes.toString('latin1', 0, headEnd))?.[1];
    if (length === undefined) throw new Error(`the server answered ${bytes.toString()}`);
    return headEnd + HEAD_END.length + Number(length);
  }
}

interface Load {
  readonly url: string;
  readonly requests: readonly Buffer[];
  readonly connectionCount: number;
}

async function withConnections<Result>(
  { url, connectionCount }: Load,
  use: (connections: readonly Connection[]) => Promise<Result>,
): Promise<Result> {
  const opened = Array.from({ length: connectionCount }, () => Connection.open(url));
  const connections = await Promise.all(opened);
  try {
    return await use(connections);
  } finally {
    for (const connection of connections) connection.close();
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/**
 * Answers a second where every connection asks again at once. The client never sleeps: to wake it up for each answer is an
 * interrupt of another core, which the server's core would bear.
 */
export function saturation(load: Load, seconds: number): Promise<number> {
  return withConnections(load, async (connections) => {
    const startMs = systemClock.monotonicMs();
    const endMs = startMs + 1_000 * seconds;
    let count = 0;
    let openCount = connections.length;
    for (const connection of connections) {
      const next = (): void => {
        if (systemClock.monotonicMs() >= endMs) {
          openCount -= 1;
          return;
        }
        connection.send(at(load.requests, count % load.requests.length), (answer) => {
          requireSuccess(answer);
          next();
        });
        count += 1;
      };
      next();
    }
    while (openCount > 0) await nextTurn();
    return (1_000 * count) / (systemClock.monotonicMs() - startMs);
  });
}

/** @param latencyMs from when the request was due */
type DueAnswered = (answer: Buffer, latencyMs: number) => void;

interface OpenLoop {
  readonly ratePerSecond: number;
  /** How long the client sleeps between two turns; 0 if it stays awake. */
  readonly sleepMs: number;
  /** Called when a request is due, with its place among the requests. */
  readonly due: (place: number) => DueAnswered;
}

/** Sends requests while the work goes on. Gaps between them are exponential, as of many callers. */
export function openLoop(
  load: Load,
  { ratePerSecond, sleepMs, due }: OpenLoop,
  work: () => Promise<void>,
): Promise<void> {
  const random = randomStream(23, 'arrivals');
  const gapMs = (): number => (-1_000 * Math.log(1 - random.uniform())) / ratePerSecond;
  return withConnections(load, async (connections) => {
    const idle = [...connections];
    const waiting: { readonly dueMs: number; readonly place: number; answered: DueAnswered }[] = [];
    const over = new AbortController();
    const worked = work().finally(() => over.abort());
    let nextMs = systemClock.monotonicMs() + gapMs();
    let dueCount = 0;
    while (!over.signal.aborted || waiting.length > 0 || idle.length < connections.length) {
      for (; !over.signal.aborted && nextMs <= systemClock.monotonicMs(); nextMs += gapMs()) {
        const place = dueCount % load.requests.length;
        waiting.push({ dueMs: nextMs, place, answered: due(place) });
        dueCount += 1;
      }
      // In turn, since the server ends connections that bring nothing for ten seconds.
      for (let connection = idle[0]; connection !== undefined; connection = idle[0]) {
        const request = waiting.shift();
        if (request === undefined) break;
        const { place, dueMs, answered } = request;
        const used = connection;
        idle.shift();
        used.send(at(load.requests, place), (answer) => {
          answered(answer, systemClock.monotonicMs() - dueMs);
          idle.push(used);
        });
      }
      await (sleepMs === 0 ? nextTurn() : systemClock.sleep(sleepMs));
    }
    await worked;
  });
}

/** Quantiles of times, to a hundredth of their unit. */
export function quantilesOf(times: readonly number[]) {
  const sorted = Float64Array.from(times).sort();
  const quantile = (share: number): number =>
    Math.round(100 * at(sorted, Math.min(sorted.length - 1, Math.floor(share * sorted.length)))) /
    100;
  return {
    ...{ count: sorted.length, p50: quantile(0.5), p90: quantile(0.9) },
    ...{ p99: quantile(0.99), p999: quantile(0.999) },
  };
}

export type Quantiles = ReturnType<typeof quantilesOf>;
