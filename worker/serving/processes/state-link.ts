/**
 * The state of a server of several processes. Their parent has the logs and the compute process that adapts; each process
 * has a copy of the state of each log that it joins, appends through the parent, and is told of all lines in one order.
 */

import {
  errorFromRecord,
  failureRecordOf,
  type FailureRecord,
} from '../../../shared/base/failure-record.js';
import type { JobInput } from '../../../shared/queue/job-executor.js';
import type { AdaptEngine } from '../server/live-adapter.js';
import type { FileLog, LogState, SharedLog } from '../state/shared-log.js';

/** To a process. */
export type StateOrder =
  /** Answers `join`; lines of a snapshot. */
  | { readonly kind: 'joined'; readonly log: string; readonly lines: readonly string[] }
  /** `request` is that of the process that has appended the line. */
  | {
      readonly kind: 'line';
      readonly log: string;
      readonly text: string;
      readonly epochMs: number;
      readonly request: number | null;
    }
  /** The output is empty where only a start was asked for. */
  | { readonly kind: 'adapted'; readonly request: number; readonly output: Uint8Array }
  | { readonly kind: 'refused'; readonly request: number; readonly failure: FailureRecord };

/** From a process; it uses no number of a request again. */
export type StateRequest =
  | { readonly kind: 'join'; readonly log: string }
  | {
      readonly kind: 'append';
      readonly log: string;
      readonly text: string;
      readonly request: number;
    }
  /**
   * A job for the engine, null to have it ready. A frozen input that is the one of the job before is left out.
   */
  | { readonly kind: 'adapt'; readonly input: JobInput | null; readonly request: number };

const BUG = { what: 'the parent of the processes hit a bug', cure: 'report it' };

interface Member {
  readonly tell: (order: StateOrder) => void;
  readonly logs: Set<string>;
  frozen: Uint8Array | null;
}

/** The parent's side. */
export class ProcessesState {
  readonly #logs: ReadonlyMap<
    string,
    Pick<FileLog<LogState<unknown>, unknown>, 'state' | 'append'>
  >;
  readonly #engine: AdaptEngine;
  readonly #members = new Map<number, Member>();

  constructor(
    logs: Readonly<Record<string, Pick<FileLog<LogState<unknown>, unknown>, 'state' | 'append'>>>,
    engine: AdaptEngine,
  ) {
    this.#logs = new Map(Object.entries(logs));
    this.#engine = engine;
  }

  join(place: number, tell: Member['tell']): void {
    this.#members.set(place, { tell, logs: new Set(), frozen: null });
  }

  /** A process that has ended. */
  leave(place: number): void {
    this.#members.delete(place);
  }

  async hear(place: number, asked: StateRequest): Promise<void> {
    const member = this.#members.get(place);
    if (member === undefined) return;
    // Another process may stand in this place when there is an answer; its requests have the same numbers.
    const tell: Member['tell'] = (order) => {
      if (this.#members.get(place) === member) member.tell(order);
    };
    if (asked.kind === 'join') {
      member.logs.add(asked.log);
      tell({ kind: 'joined', log: asked.log, lines: [...this.#log(asked.log).state.snapshot()] });
      return;
    }
    const { request } = asked;
    try {
      if (asked.kind === 'adapt') {
        tell({ kind: 'adapted', request, output: await this.#adapt(member, asked.input) });
        return;
      }
      const { log, text } = asked;
      await this.#log(log).append(text, (epochMs) => {
        for (const each of this.#members.values())
          if (each.logs.has(log)) {
            const own = each === member ? request : null;
            each.tell({ kind: 'line', log, text, epochMs, request: own });
          }
      });
    } catch (error) {
      tell({ kind: 'refused', request, failure: failureRecordOf(error, BUG) });
    }
  }

  #log(name: string): Pick<FileLog<LogState<unknown>, unknown>, 'state' | 'append'> {
    const log = this.#logs.get(name);
    if (log === undefined) throw new Error(`there is no log ${name}`);
    return log;
  }

  async #adapt(member: Member, input: JobInput | null): Promise<Uint8Array> {
    if (input === null) {
      await this.#engine.start();
      return new Uint8Array();
    }
    member.frozen = input.frozen ?? member.frozen;
    return (await this.#engine.execute({ ...input, frozen: member.frozen })).output;
  }
}

/** A process' side. */
export class ParentLink implements AdaptEngine {
  readonly #tell: (request: StateRequest) => void;
  readonly #joined = new Map<string, (order: Extract<StateOrder, { log: string }>) => void>();
  readonly #refusing = new Map<number, (failure: Error) => void>();
  readonly #adapting = new Map<number, (output: Uint8Array) => void>();
  #requestCount = 0;
  /** Digest of the frozen input that the parent has. */
  #frozen = '';

  /** @param tell tells the parent. */
  constructor(tell: (request: StateRequest) => void) {
    this.#tell = tell;
  }

  /** Resolves when the state is that of the parent. */
  open<State extends LogState<Result>, Result>(
    log: string,
    state: State,
    nowMs: () => number,
  ): Promise<SharedLog<State, Result>> {
    const waiting = new Map<number, (result: Result) => void>();
    const append = (text: string): Promise<Result> =>
      this.#ask<Result>(waiting, (request) => ({ kind: 'append', log, text, request }));
    const shared = { state, append, nowMs, close: () => Promise.resolve() };
    return new Promise((resolve) => {
      this.#joined.set(log, (order) => {
        if (order.kind === 'joined') {
          for (const text of order.lines) state.apply(text, 0);
          resolve(shared);
          return;
        }
        const result = state.apply(order.text, order.epochMs);
        if (order.request !== null) waiting.get(order.request)?.(result);
      });
      this.#tell({ kind: 'join', log });
    });
  }

  async start(): Promise<void> {
    await this.#adapt(null);
  }

  async execute(input: JobInput): ReturnType<AdaptEngine['execute']> {
    const sha256 = input.job.frozen?.sha256 ?? '';
    const isThere = sha256 === this.#frozen;
    this.#frozen = sha256;
    return { output: await this.#adapt(isThere ? { ...input, frozen: null } : input) };
  }

  hear(order: StateOrder): void {
    if (order.kind === 'joined' || order.kind === 'line') this.#joined.get(order.log)?.(order);
    else if (order.kind === 'adapted') this.#adapting.get(order.request)?.(order.output);
    else this.#refusing.get(order.request)?.(errorFromRecord(order.failure));
  }

  #adapt(input: JobInput | null): Promise<Uint8Array> {
    return this.#ask(this.#adapting, (request) => ({ kind: 'adapt', input, request }));
  }

  async #ask<Answer>(
    waiting: Map<number, (answer: Answer) => void>,
    questionOf: (request: number) => StateRequest,
  ): Promise<Answer> {
    const request = this.#requestCount++;
    try {
      return await new Promise((resolve, reject) => {
        waiting.set(request, resolve);
        this.#refusing.set(request, reject);
        this.#tell(questionOf(request));
      });
    } finally {
      waiting.delete(request);
      this.#refusing.delete(request);
    }
  }
}
