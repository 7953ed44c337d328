/** The connections of a server whose requests are plain, and what becomes of them with time. */

import type { Socket } from 'node:net';
import { PlainConnection, type PlainConnectionParts } from './plain-connection.js';

/** Between two looks at the connections; what has begun and not come as a whole by then is node:http's. */
const CHECKING_MS = 500;

type PlainConnectionsParts<Accepted> = Omit<PlainConnectionParts<Accepted>, 'date'>;

export class PlainConnections<Accepted> {
  readonly #parts: PlainConnectionParts<Accepted>;
  readonly #open = new Set<PlainConnection<Accepted>>();
  readonly #closing = new AbortController();
  #date = { ofSecond: -1, text: '' };

  constructor(parts: PlainConnectionsParts<Accepted>) {
    this.#parts = { ...parts, date: () => this.#dateNow() };
  }

  take(socket: Socket): void {
    this.#open.add(
      new PlainConnection(socket, this.#parts, (connection) => this.#open.delete(connection)),
    );
  }

  /** Looks at the connections until all are closed. */
  async watch(): Promise<void> {
    const { clock } = this.#parts;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await clock.sleep(CHECKING_MS, signal);
      const nowMs = clock.monotonicMs();
      for (const connection of this.#open) connection.check(nowMs, CHECKING_MS);
    }
  }

  /** Closes connections without a request under way. */
  drain(): void {
    for (const connection of this.#open) connection.drain();
  }

  close(): void {
    this.#closing.abort();
    for (const connection of this.#open) connection.destroy();
  }

  #dateNow(): string {
    const epochMs = this.#parts.clock.epochMs();
    const second = Math.floor(epochMs / 1_000);
    if (second !== this.#date.ofSecond)
      this.#date = { ofSecond: second, text: new Date(epochMs).toUTCString() };
    return this.#date.text;
  }
}
