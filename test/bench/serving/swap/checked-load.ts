/**
 * Load in an open loop whose answers are all held against those that each bundle gave before: an answer
 * must be that of the bundle that it names. Requests are due at drawn times, a latency begins when a
 * request is due, and the client sleeps between them, since threads that make a bundle ready run on what
 * others leave.
 */

import { at } from '../../../../shared/base/arrays.js';
import { systemClock } from '../../../../shared/base/clock.js';
import { randomStream } from '../../../../shared/base/random.js';
import { Connection } from '../server/load.js';

const CONNECTIONS = 64;
const SUCCESS = 'HTTP/1.1 200';
const HEAD_END = '\r\n\r\n';
const BUNDLE = /"bundle":"([0-9a-f]{64})"/;

interface DueRequest {
  readonly dueMs: number;
  readonly latenciesMs: number[];
}

export class CheckedLoad {
  readonly #url: URL;
  readonly #requests: readonly Buffer[];
  readonly #ratePerSecond: number;
  readonly #arrivals = randomStream(29, 'arrivals');
  #idle: Connection[] = [];
  #latenciesMs: number[] = [];
  /** The answers of each bundle, in the order of the requests. */
  readonly #expected = new Map<string, readonly Buffer[]>();
  #sent = 0;
  #wrong = 0;
  #failed = 0;

  constructor(url: URL, requests: readonly Buffer[], ratePerSecond: number) {
    this.#url = url;
    this.#requests = requests;
    this.#ratePerSecond = ratePerSecond;
  }

  get wrongCount(): number {
    return this.#wrong;
  }

  /** Requests that were refused. */
  get failedCount(): number {
    return this.#failed;
  }

  /** Remembers what the bundle that is served answers to each request. */
  async learn(): Promise<void> {
    const connection = await this.#opened();
    const answers: Buffer[] = [];
    for (const request of this.#requests) {
      const answer = await answerTo(connection, request);
      if (!isSuccess(answer)) throw new Error(`the server answered ${answer.toString()}`);
      answers.push(Buffer.from(contentOf(answer)));
    }
    this.#expected.set(bundleOf(at(answers, 0)), answers);
    connection.close();
  }

  /** Requests that are due from now on leave their milliseconds, from then until they were answered, in this list. */
  recordIn(latenciesMs: number[]): void {
    this.#latenciesMs = latenciesMs;
  }

  /** Asks while the work goes on. */
  async during(work: () => Promise<void>): Promise<void> {
    const connections = Array.from({ length: CONNECTIONS }, () => this.#opened());
    this.#idle = await Promise.all(connections);
    const due: DueRequest[] = [];
    const open = new Set<Promise<void>>();
    const over = new AbortController();
    const worked = work().finally(() => over.abort());
    const startMs = systemClock.monotonicMs();
    let nextMs = startMs + this.#gapMs();
    while (!over.signal.aborted || due.length > 0) {
      const nowMs = systemClock.monotonicMs();
      for (; !over.signal.aborted && nextMs <= nowMs; nextMs += this.#gapMs())
        due.push({ dueMs: nextMs, latenciesMs: this.#latenciesMs });
      while (this.#idle.length > 0) {
        const request = due.shift();
        if (request === undefined) break;
        const asking = this.#ask(request).finally(() => open.delete(asking));
        open.add(asking);
      }
      await systemClock.sleep(Math.max(1, Math.min(nextMs - systemClock.monotonicMs(), 5)));
    }
    await worked;
    await Promise.all(open);
    for (const connection of this.#idle) connection.close();
  }

  #opened(): Promise<Connection> {
    return Connection.open(this.#url, true);
  }

  async #ask({ dueMs, latenciesMs }: DueRequest): Promise<void> {
    const connection = this.#idle.shift();
    if (connection === undefined) throw new Error('no connection is idle');
    const place = this.#sent % this.#requests.length;
    this.#sent += 1;
    const answer = await answerTo(connection, at(this.#requests, place));
    latenciesMs.push(systemClock.monotonicMs() - dueMs);
    this.#idle.push(connection);
    if (!isSuccess(answer)) {
      this.#failed += 1;
      return;
    }
    const content = contentOf(answer);
    const wanted = this.#expected.get(bundleOf(content))?.[place];
    if (wanted?.equals(content) !== true) this.#wrong += 1;
  }

  /** The next gap: exponential, as of many callers. */
  #gapMs(): number {
    return (-1_000 * Math.log(1 - this.#arrivals.uniform())) / this.#ratePerSecond;
  }
}

function answerTo(connection: Connection, request: Buffer): Promise<Buffer> {
  return new Promise((resolve) => connection.send(request, resolve));
}

function isSuccess(answer: Buffer): boolean {
  return answer.toString('latin1', 0, SUCCESS.length) === SUCCESS;
}

function contentOf(answer: Buffer): Buffer {
  return answer.subarray(answer.indexOf(HEAD_END) + HEAD_END.length);
}

function bundleOf(content: Buffer): string {
  return BUNDLE.exec(content.toString('latin1', 0, 200))?.[1] ?? '';
}
