/** The live rows of one of several processes: its parent stores and adapts them, and tells it of all. */

import { QianmoError } from '../../../shared/base/errors.js';
import { errorFromRecord } from '../../../shared/base/failure-record.js';
import type { JobOutput } from '../../../shared/queue/job-executor.js';
import type { AdaptEngine, AdaptInput } from '../adaptation/adapt-jobs.js';
import {
  parsedRows,
  storedRowsOf,
  type AdaptedRows,
  type LiveRows,
  type LiveRowsStore,
  type PutOutcome,
} from '../adaptation/live-rows.js';
import type { RowsOrder, RowsReply } from './rows-messages.js';

type Answer = Exclude<RowsOrder, { kind: 'stored' | 'failed' }>;
type Request = Exclude<RowsReply, { kind: 'served' }>;
type Question<Of extends Request = Request> = Of extends Request ? Omit<Of, 'request'> : never;

/** Rows that this process puts. */
interface OwnRows {
  readonly rows: LiveRows;
  readonly adapted: AdaptedRows | null;
}

interface Asked {
  readonly own: OwnRows | null;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (failure: unknown) => void;
}

export class RowsOfParent implements LiveRowsStore, AdaptEngine {
  readonly #tell: (reply: RowsReply) => void;
  readonly #asked = new Map<number, Asked>();
  #requestCount = 0;
  #listen: Parameters<LiveRowsStore['follow']>[0] = () => Promise.resolve();

  /** @param tell tells the parent. */
  constructor(tell: (reply: RowsReply) => void) {
    this.#tell = tell;
  }

  follow(listener: Parameters<LiveRowsStore['follow']>[0]): void {
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

  async put(rows: LiveRows, adapted: AdaptedRows | null): Promise<PutOutcome> {
    const question = { kind: 'put', rows: storedRowsOf(rows), adapted } as const;
    const answer = await this.#ask(question, { rows, adapted });
    if (answer.kind !== 'put') throw new Error(`${answer.kind} answers put`);
    return answer.outcome;
  }

  async start(): Promise<void> {
    await this.#ask({ kind: 'start' });
  }

  async execute(input: AdaptInput): Promise<Pick<JobOutput, 'output'>> {
    const first = await this.#ask({ kind: 'adapt', input: { ...input, frozen: null } });
    const answer =
      first.kind === 'frozen-wanted' ? await this.#ask({ kind: 'adapt', input }) : first;
    if (answer.kind !== 'adapted') throw new Error(`${answer.kind} answers adapt`);
    return answer;
  }

  /** Takes what the parent says. */
  hear(order: RowsOrder): void {
    if (order.kind === 'stored') {
      void this.#serve(order);
      return;
    }
    const asked = this.#asked.get(order.request);
    this.#asked.delete(order.request);
    if (order.kind === 'failed') asked?.reject(errorFromRecord(order.failure));
    else asked?.resolve(order);
  }

  async #serve(order: Extract<RowsOrder, { kind: 'stored' }>): Promise<void> {
    const own = order.request === null ? null : (this.#asked.get(order.request)?.own ?? null);
    const rows = own?.rows ?? parsedRows(order.text, 'the rows of another process');
    try {
      await this.#listen(rows, own?.adapted ?? order.adapted);
      this.#tell({ kind: 'served', order: order.order });
    } catch (error) {
      // The put is refused when the parent has waited long enough; its client sends the rows again.
      if (!(error instanceof QianmoError)) throw error;
    }
  }

  #ask(question: Question, own: OwnRows | null = null): Promise<Answer> {
    const request = this.#requestCount++;
    return new Promise((resolve, reject) => {
      this.#asked.set(request, { own, resolve, reject });
      this.#tell({ ...question, request });
    });
  }
}
