/** A request that waits for its answer, whoever has read it from its connection. */

import type { ServerResponse } from 'node:http';
import { keptAnswer, type Answer } from '../endpoint.js';

export interface Exchange {
  /** Whether the client has an answer, or has left. */
  readonly isOver: boolean;
  /** Sends nothing where it is over. Headers are those beside the type and the length of the content. */
  send(status: number, answer: Answer, headers?: Readonly<Record<string, string>>): void;
}

/** One that node:http has read. */
export class NodeExchange implements Exchange {
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
