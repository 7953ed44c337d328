/**
 * The port of several processes. Their parent has it for as long as it lives, and hands each connection to the next process that is
 * free, one at a time to each. It keeps its own copy of a connection until the process has begun to read from its own: what a process has not taken
 * when it ends was read by nobody, and goes to another one.
 */

import { createServer, type Server, type Socket } from 'node:net';
import { listening } from '../../../shared/network/listening.js';

/** Processes that a connection is handed to, one after the other, before it is closed. */
const HAND_OUTS_MAX = 3;

/** The fate of a connection that was handed to a process: it reads from it, it has not got it, or it takes no more. */
export type HandedOutcome = 'taken' | 'missing' | 'closing';

/** A process that takes connections. */
export interface Taker {
  /** Hands a connection over; `fail` is called if that cannot be told. */
  readonly give: (number: number, socket: Socket, fail: () => void) => void;
}

interface Accepted {
  readonly socket: Socket;
  handOutCount: number;
}

interface HandedOut {
  readonly number: number;
  readonly accepted: Accepted;
}

export class ConnectionHandOut {
  readonly #server: Server;
  #isClosing = false;
  readonly #takers = new Set<Taker>();
  /** In turn. */
  readonly #free = new Set<Taker>();
  readonly #handedOut = new Map<Taker, HandedOut>();
  readonly #waiting = new Set<Accepted>();
  #count = 0;

  /** @param connectionsMax that wait or are handed out and not taken; others are closed at once. */
  constructor(connectionsMax: number) {
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      socket.on('error', () => undefined);
      this.#take({ socket, handOutCount: 0 });
    });
    this.#server.maxConnections = connectionsMax;
  }

  /**
   * Resolves with the address of the port.
   *
   * @throws QianmoError `environment` if the port is taken.
   */
  async listen(place: { readonly host: string; readonly port: number }): Promise<string> {
    const failure = { what: 'the server cannot listen', option: '--port' };
    const url = await listening(this.#server, place, failure);
    if (this.#isClosing) this.#server.close();
    return url;
  }

  /** A process that is ready. */
  join(taker: Taker): void {
    this.#takers.add(taker);
    this.#free.add(taker);
    this.#handOut();
  }

  /** One that takes no more, and from which nothing more will be heard. */
  leave(taker: Taker): void {
    const left = this.#handedOut.get(taker);
    this.#handedOut.delete(taker);
    this.#retire(taker);
    if (left !== undefined) this.#take(left.accepted);
  }

  hear(taker: Taker, number: number, outcome: HandedOutcome): void {
    const handedOut = this.#handedOut.get(taker);
    if (handedOut?.number !== number) return;
    this.#handedOut.delete(taker);
    if (outcome === 'closing') this.#retire(taker);
    else if (this.#takers.has(taker)) this.#free.add(taker);
    if (outcome !== 'taken') this.#take(handedOut.accepted);
    else {
      // The connection stays open: the process has a copy.
      handedOut.accepted.socket.destroy();
      this.#handOut();
    }
  }

  /** Takes no more connections. Those that were handed out are still those of their processes. */
  close(): void {
    this.#isClosing = true;
    this.#server.close();
    this.#takers.clear();
    this.#free.clear();
    this.#closeWaiting();
  }

  /** It is handed nothing more, and may still say what has become of the last connection. */
  #retire(taker: Taker): void {
    this.#takers.delete(taker);
    this.#free.delete(taker);
    if (this.#takers.size === 0) this.#closeWaiting();
  }

  #take(accepted: Accepted): void {
    const isHopeless = this.#takers.size === 0 || accepted.handOutCount >= HAND_OUTS_MAX;
    if (isHopeless) accepted.socket.destroy();
    else this.#waiting.add(accepted);
    this.#handOut();
  }

  #handOut(): void {
    for (const accepted of this.#waiting) {
      const [taker] = this.#free;
      if (taker === undefined) return;
      this.#waiting.delete(accepted);
      this.#free.delete(taker);
      accepted.handOutCount += 1;
      this.#count += 1;
      this.#handedOut.set(taker, { number: this.#count, accepted });
      taker.give(this.#count, accepted.socket, () => this.leave(taker));
    }
  }

  #closeWaiting(): void {
    for (const { socket } of this.#waiting) socket.destroy();
    this.#waiting.clear();
  }
}
