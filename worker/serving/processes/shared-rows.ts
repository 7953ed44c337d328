/**
 * The live rows of several processes, in their parent: it has the log and the compute process that adapts, and tells every
 * process of all rows in the order of the log. A put is answered when its rows are on disk and every process serves them.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { failureRecordOf } from '../../../shared/base/failure-record.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { AdaptEngine, AdaptInput } from '../adaptation/adapt-jobs.js';
import type { LiveRowsLog } from '../adaptation/live-rows-log.js';
import type { RowsOrder, RowsReply } from './rows-messages.js';

type Tell = (order: RowsOrder) => void;
type Put = Extract<RowsReply, { kind: 'put' }>;

/** A process may be busy with a large bundle. */
const SERVED_MS_MAX = 5_000;
/** The bundle in use, a canary, and the next one of each. */
const FROZEN_KEPT_COUNT = 4;
const BUG = { what: 'the parent of the processes hit a bug', cure: 'report it' };

export class SharedRows {
  readonly #log: LiveRowsLog;
  readonly #engine: AdaptEngine;
  readonly #clock: Clock;
  /** Frozen inputs of jobs by sha256, which every process has. */
  readonly #frozen = new LruCache<string, Uint8Array>({ countMax: FROZEN_KEPT_COUNT });
  readonly #processes = new Map<number, Tell>();
  /** Processes that do not serve an order yet, and who waits for them. */
  readonly #unserved = new Map<
    number,
    { readonly places: Set<number>; readonly done: () => void }
  >();
  #orderCount = 0;

  constructor(log: LiveRowsLog, engine: AdaptEngine, clock: Clock) {
    this.#log = log;
    this.#engine = engine;
    this.#clock = clock;
  }

  /** A process that reads the rows after this call, and is told of later ones. */
  join(place: number, tell: Tell): void {
    this.#processes.set(place, tell);
  }

  /** A process that has ended. */
  leave(place: number): void {
    this.#processes.delete(place);
    for (const order of this.#unserved.keys()) this.#served(order, place);
  }

  async hear(place: number, reply: RowsReply): Promise<void> {
    if (reply.kind === 'served') {
      this.#served(reply.order, place);
      return;
    }
    const { request } = reply;
    // Another process may stand in this place when there is an answer; its requests have the same numbers.
    const asking = this.#processes.get(place);
    const answer = await this.#answer(asking, reply).catch((error: unknown): RowsOrder => {
      return { kind: 'failed', request, failure: failureRecordOf(error, BUG) };
    });
    if (this.#processes.get(place) === asking) asking?.(answer);
  }

  async #answer(
    asking: Tell | undefined,
    reply: Exclude<RowsReply, { kind: 'served' }>,
  ): Promise<RowsOrder> {
    const { request } = reply;
    if (reply.kind === 'keys') return { kind: 'keys', request, keys: [...this.#log.keys()] };
    if (reply.kind === 'read') return { kind: 'read', request, text: this.#log.textOf(reply.key) };
    if (reply.kind === 'start') {
      await this.#engine.start();
      return { kind: 'started', request };
    }
    if (reply.kind === 'adapt') return this.#adapted(request, reply.input);
    let served = Promise.resolve();
    const outcome = await this.#log.put(reply.rows, () => {
      served = this.#tellAll(asking, reply);
    });
    await served;
    return { kind: 'put', request, outcome };
  }

  async #adapted(request: number, input: AdaptInput): Promise<RowsOrder> {
    const { sha256 = '' } = input.job.frozen ?? {};
    const frozen = input.frozen ?? this.#frozen.get(sha256);
    if (frozen === undefined) return { kind: 'frozen-wanted', request };
    this.#frozen.put(sha256, frozen);
    const { output } = await this.#engine.execute({ ...input, frozen });
    return { kind: 'adapted', request, output };
  }

  /** Resolves when all processes that run now serve the rows. */
  async #tellAll(
    asking: Tell | undefined,
    { request, rows: { text }, adapted }: Put,
  ): Promise<void> {
    const order = this.#orderCount++;
    const places = new Set(this.#processes.keys());
    const late = new AbortController();
    const served = new Promise<void>((resolve) => {
      if (places.size === 0) resolve();
      else this.#unserved.set(order, { places, done: resolve });
    });
    // Who has put the rows has them.
    for (const tell of this.#processes.values())
      tell(
        tell === asking
          ? { kind: 'stored', order, request, text: '', adapted: null }
          : { kind: 'stored', order, request: null, text, adapted },
      );
    const isLate = this.#clock.sleep(SERVED_MS_MAX, late.signal).then(() => !late.signal.aborted);
    const hasFailed = await Promise.race([served.then(() => false), isLate]);
    late.abort();
    this.#unserved.delete(order);
    if (hasFailed) throw notServed(places.size);
  }

  #served(order: number, place: number): void {
    const waiting = this.#unserved.get(order);
    waiting?.places.delete(place);
    if (waiting?.places.size === 0) waiting.done();
  }
}

function notServed(count: number): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: `the rows are stored, and ${count} processes do not serve them yet`,
    expected: `within ${SERVED_MS_MAX} ms`,
    cure: 'send them again',
  });
}
