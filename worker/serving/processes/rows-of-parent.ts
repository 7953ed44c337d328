/** The live rows of one of several processes: its parent stores them and tells it of all. */

import { errorFromRecord } from '../../../shared/base/failure-record.js';
import {
  parsedRows,
  storedRowsOf,
  type LiveRows,
  type LiveRowsStore,
  type PutOutcome,
} from '../adaptation/live-rows.js';
import type { RowsOrder, RowsReply } from './rows-messages.js';

type Answer = Exclude<RowsOrder, { kind: 'stored' | 'failed' }>;
type Request = Exclude<RowsReply, { kind: 'served' }>;

interface Asked {
  /** Those that this process puts. */
  readonly rows: LiveRows | null;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (failure: unknown) => void;
}

export class RowsOfParent implements LiveRowsStore {
  readonly #tell: (reply: RowsReply) => void;
  readonly #asked = new Map<number, Asked>();
  #requestCount = 0;
  #listen: (rows: LiveRows) => void = () => undefined;

  /** @param tell tells the parent. */
  constructor(tell: (reply: RowsReply) => void) {
    this.#tell = tell;
  }

  follow(listener: (rows: LiveRows) => void): void {
    this.#listen = listener;
  }

  async keys(): Promise<readonly string[]> {
    const answer = await this.#ask({ kind: 'keys' });
    if (answer.kind !== 'keys') throw new Error(`${answer.kind} answers keys`);
    return answer.keys;
  }

  async rowsOf(key: string): Promise<LiveRows | null> {
    const answer = await this.#ask({ kind: 'read', key });
    if (answer.kind !== 'read') throw new Error(`${answer.kind} answers read`);
    return answer.text === null ? null : parsedRows(answer.text, key);
  }

  async put(rows: LiveRows): Promise<PutOutcome> {
    const answer = await this.#ask({ kind: 'put', rows: storedRowsOf(rows) }, rows);
    if (answer.kind !== 'put') throw new Error(`${answer.kind} answers put`);
    return answer.outcome;
  }

  /** Takes what the parent says. */
  hear(order: RowsOrder): void {
    if (order.kind === 'stored') {
      const own = order.request === null ? null : (this.#asked.get(order.request)?.rows ?? null);
      this.#listen(own ?? parsedRows(order.text, 'the rows of another process'));
      this.#tell({ kind: 'served', order: order.order });
      return;
    }
    const asked = this.#asked.get(order.request);
    this.#asked.delete(order.request);
    if (order.kind === 'failed') asked?.reject(errorFromRecord(order.failure));
    else asked?.resolve(order);
  }

  #ask(
    question:
      | Omit<Extract<Request, { kind: 'keys' }>, 'request'>
      | Omit<Extract<Request, { kind: 'read' }>, 'request'>
      | Omit<Extract<Request, { kind: 'put' }>, 'request'>,
    rows: LiveRows | null = null,
  ): Promise<Answer> {
    const request = this.#requestCount++;
    return new Promise((resolve, reject) => {
      this.#asked.set(request, { rows, resolve, reject });
      this.#tell({ ...question, request });
    });
  }
}
