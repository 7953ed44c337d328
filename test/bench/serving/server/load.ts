/**
 * Load on a server over connections that are kept. In an open loop requests are due at times drawn
 * beforehand, whatever the server does, and a latency begins when a request is due: a server that stalls
 * is charged for all that it kept waiting (no coordinated omission).
 */

import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { at } from '../../../../shared/base/arrays.js';
import { randomStream } from '../../../../shared/base/random.js';
import type { BenchRequest } from './server-setting.js';

const HEAD_END = Buffer.from('\r\n\r\n');

/** A request with its head, as it goes over the wire. */
export function wireRequest(
  { mediaType, body }: BenchRequest,
  host: string,
  path = '/v1/rank',
): Buffer {
  const head = [
    ...[`POST ${path} HTTP/1.1`, `Host: ${host}`, `Content-Type: ${mediaType}`],
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

/** One request at a time. */
export class Connection {
  readonly #socket: Socket;
  readonly #areRefusalsAnswers: boolean;
  #received = Buffer.allocUnsafeSlow(read.length);
  #receivedCount = 0;
  #expectedCount = 0;
  #answered: Answered | null = null;

  private constructor(url: URL, areRefusalsAnswers: boolean) {
    this.#areRefusalsAnswers = areRefusalsAnswers;
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

  /** @param areRefusalsAnswers an answer of another status than 200 is an error otherwise. */
  static async open(url: URL, areRefusalsAnswers = false): Promise<Connection> {
    const connection = new Connection(url, areRefusalsAnswers);
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
    const isSuccess = bytes.compare(SUCCESS, 0, SUCCESS.length, 0, SUCCESS.length) === 0;
    if ((!this.#areRefusalsAnswers && !isSuccess) || length === undefined)
      throw new Error(`the server answered ${bytes.toString()}`);
    return headEnd + HEAD_END.length + Number(length);
  }
}

interface Load {
  readonly url: string;
  readonly requests: readonly Buffer[];
  readonly seconds: number;
  readonly connectionCount: number;
}

async function withConnections<Result>(
  { url, connectionCount }: Load,
  use: (connections: readonly Connection[]) => Promise<Result>,
): Promise<Result> {
  const opened = Array.from({ length: connectionCount }, () => Connection.open(new URL(url)));
  const connections = await Promise.all(opened);
  try {
    return await use(connections);
  } finally {
    for (const connection of connections) connection.close();
  }
}

/**
 * Answers a second where every connection asks again at once. The client never sleeps: to wake it up for each answer is an
 * interrupt of another core, which the server's core would bear.
 */
export function saturation(load: Load): Promise<number> {
  return withConnections(load, async (connections) => {
    let isOver = false;
    const stayAwake = (): void => {
      if (!isOver) setImmediate(stayAwake);
    };
    stayAwake();
    const start = performance.now();
    const endMs = start + 1_000 * load.seconds;
    let count = 0;
    const client = (connection: Connection): Promise<void> =>
      new Promise((resolve) => {
        const next = (): void => {
          if (performance.now() >= endMs) {
            resolve();
            return;
          }
          connection.send(at(load.requests, count % load.requests.length), next);
          count += 1;
        };
        next();
      });
    await Promise.all(connections.map(client));
    isOver = true;
    return (1_000 * count) / (performance.now() - start);
  });
}

interface OpenLoop {
  /** Milliseconds from when each request was due, ascending. */
  readonly latenciesMs: Float64Array;
  /** Time in turns of the client that took longer than a millisecond each: part of latencies, and no server's. */
  readonly stillMs: number;
}

/** A longer turn of the client is a stop: by its collector, or for another program. */
const TURN_MS_MAX = 1;

/** Gaps between requests are exponential, as of many callers. */
export function openLoop(load: Load, ratePerSecond: number): Promise<OpenLoop> {
  const random = randomStream(23, 'arrivals');
  const dueMs: number[] = [];
  for (let due = 0; due < 1_000 * load.seconds;) {
    due += (-1_000 * Math.log(1 - random.uniform())) / ratePerSecond;
    dueMs.push(due);
  }
  return withConnections(load, (connections) => {
    const idle = [...connections];
    const latencies = new Float64Array(dueMs.length);
    const startMs = performance.now();
    let sent = 0;
    let answered = 0;
    let stillMs = 0;
    let turnMs = 0;
    return new Promise((resolve) => {
      const turn = (): void => {
        const nowMs = performance.now() - startMs;
        if (nowMs - turnMs > TURN_MS_MAX) stillMs += nowMs - turnMs;
        turnMs = nowMs;
        while (sent < dueMs.length && at(dueMs, sent) <= nowMs) {
          // In turn, since the server ends connections that bring nothing for ten seconds.
          const connection = idle.shift();
          if (connection === undefined) break;
          const place = sent;
          connection.send(at(load.requests, place % load.requests.length), () => {
            latencies[place] = performance.now() - startMs - at(dueMs, place);
            idle.push(connection);
            answered += 1;
          });
          sent += 1;
        }
        if (answered === dueMs.length) resolve({ latenciesMs: latencies.sort(), stillMs });
        else setImmediate(turn);
      };
      turn();
    });
  });
}
