/** Connections that another process has accepted: a server of node:http neither counts them nor waits for them. */

import type { Server } from 'node:http';
import type { Socket } from 'node:net';

export class HandedConnections {
  readonly #server: Server;
  #openCount = 0;
  /** Null until no more are taken. */
  #onNoneOpen: (() => void) | null = null;

  /** @param server with the bound on its connections. */
  constructor(server: Server) {
    this.#server = server;
  }

  /** Has the server look after time, as one does that listens. */
  begin(): void {
    this.#server.emit('listening');
  }

  /** Connections beyond the bound are closed at once, as are those that come late. */
  take(socket: Socket): void {
    if (this.#onNoneOpen !== null || this.#openCount >= this.#server.maxConnections) {
      socket.destroy();
      return;
    }
    this.#openCount += 1;
    socket.once('close', () => {
      this.#openCount -= 1;
      if (this.#openCount === 0) this.#onNoneOpen?.();
    });
    // As of connections that a server of node:http accepts.
    socket.allowHalfOpen = true;
    this.#server.emit('connection', socket);
  }

  /** Takes no more, and resolves once none is open. */
  closed(): Promise<void> {
    return new Promise((resolve) => {
      this.#onNoneOpen = resolve;
      if (this.#openCount === 0) resolve();
    });
  }
}
