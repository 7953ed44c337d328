/**
 * The simulated server of the queue and its blobs: the in-memory queue, with blobs that have lifetimes. It
 * can be away, be full, lose its memory, and fail over to a replica that lacks the last writes.
 */

import { RunFencedError } from '../../shared/storage/lease.js';
import { setMaxListeners } from 'node:events';
import {
  BlobMissingError,
  blobRefOf,
  verifiedBlob,
  type BlobRef,
  type BlobStore,
} from '../../shared/storage/blob-store.js';
import { MemoryJobQueue, CommandConsumer, type ConsumerCommands } from './memory-queue.js';
import type { Machine, SimulatedProcess } from './machines.js';
import { errorOf } from '../../shared/base/errors.js';
import {
  WAKE_ALL,
  type BlobLimits,
  type JobConsumer,
  type JobProducer,
  type JobQueue,
  type OpenConsumerOptions,
  type WakeUp,
} from '../../shared/queue/job-queue.js';
import { promised } from '../../shared/storage/memory-object-store.js';
import { parseJobFailure } from '../../shared/queue/queue-errors.js';
import { queueCallsAt, type QueueCall } from '../../shared/queue/redis-connection.js';
import type { CarriedJob, JobResult } from '../../shared/queue/protocol.js';

/** Whether a command only reads: a server that refuses to write still answers it. */
type CommandKind = 'reads' | 'writes';

type Condition = 'up' | 'away' | 'read-only' | 'disk-full' | 'memory-full';

/** The words of Redis, so that the code that reads them is part of the simulation. */
const REFUSAL_BY_CONDITION: Readonly<Record<Exclude<Condition, 'up' | 'away'>, string>> = {
  'read-only': "READONLY You can't write against a read only replica.",
  'disk-full':
    'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.',
  'memory-full': "OOM command not allowed when used memory > 'maxmemory'.",
};

interface StoredBlob {
  readonly bytes: Uint8Array;
  endMs: number;
}

export class SimulatedServer {
  readonly queue: MemoryJobQueue;
  readonly #machine: Machine;
  readonly #blobs = new Map<string, StoredBlob>();
  #condition: Condition = 'up';
  /** Rises whenever connections break. */
  #connectionNumber = 0;
  #whenUp: Promise<void> | null = null;
  #tellUp: () => void = () => undefined;
  readonly #onReconnect = new Set<() => void>();
  readonly #forget: () => void;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.queue = new MemoryJobQueue({
      clock: {
        epochMs: () => machine.epochMs(),
        monotonicMs: () => machine.monotonicMs(),
        sleep: (durationMs, signal) => machine.sleep(durationMs, signal),
      },
    });
    this.#forget = this.queue.remember();
  }

  get isAway(): boolean {
    return this.#condition === 'away';
  }

  get connectionNumber(): number {
    return this.#connectionNumber;
  }

  get blobCount(): number {
    this.#expire();
    return this.#blobs.size;
  }

  /** Resolves when connections are possible. */
  async up(): Promise<void> {
    while (this.#whenUp !== null) await this.#whenUp;
  }

  onReconnect(listener: () => void): () => void {
    this.#onReconnect.add(listener);
    return () => void this.#onReconnect.delete(listener);
  }

  goAway(): void {
    if (this.#condition === 'away') return;
    this.#condition = 'away';
    this.#connectionNumber += 1;
    this.#whenUp = new Promise((resolve) => {
      this.#tellUp = resolve;
    });
  }

  become(condition: Exclude<Condition, 'away'>): void {
    const wasAway = this.#condition === 'away';
    this.#condition = condition;
    if (!wasAway) return;
    this.#whenUp = null;
    this.#tellUp();
    for (const listener of this.#onReconnect) listener();
  }

  /** @throws Error in the words of Redis. */
  demand(kind: CommandKind): void {
    const condition = this.#condition;
    if (condition === 'up' || condition === 'away' || kind === 'reads') return;
    throw Object.assign(new Error(REFUSAL_BY_CONDITION[condition]), { name: 'ReplyError' });
  }

  /** Returns a function that brings the state of now back. */
  remember(): () => void {
    const restoreQueue = this.queue.remember();
    const kept = new Map([...this.#blobs].map(([key, blob]) => [key, { ...blob }]));
    return () => {
      restoreQueue();
      this.#blobs.clear();
      for (const [key, blob] of kept) this.#blobs.set(key, blob);
    };
  }

  loseMemory(): void {
    this.#forget();
    this.#blobs.clear();
  }

  putBlob({ sha256 }: BlobRef, bytes: Uint8Array, lifetimeMs: number): void {
    const endMs = this.#machine.monotonicMs() + lifetimeMs;
    this.#blobs.set(sha256, { bytes: new Uint8Array(bytes), endMs });
  }

  /** Renews the lifetime of the blob. */
  blob({ sha256 }: BlobRef, lifetimeMs: number): Uint8Array | null {
    this.#expire();
    const found = this.#blobs.get(sha256);
    if (found === undefined) return null;
    found.endMs = this.#machine.monotonicMs() + lifetimeMs;
    return new Uint8Array(found.bytes);
  }

  deleteBlob({ sha256 }: BlobRef): void {
    this.#blobs.delete(sha256);
  }

  /** @param draw below 1: which of the blobs. */
  evictOne(draw: number): void {
    const sha256 = this.#chosen(draw);
    if (sha256 !== undefined) this.#blobs.delete(sha256);
  }

  /** Changes a byte of a blob, or cuts it off. */
  damageOne(draw: number, isCutOff: boolean): void {
    const sha256 = this.#chosen(draw);
    const found = sha256 === undefined ? undefined : this.#blobs.get(sha256);
    if (sha256 === undefined || found === undefined) return;
    this.#blobs.set(sha256, { ...found, bytes: damaged(found.bytes, isCutOff) });
  }

  #chosen(draw: number): string | undefined {
    const keys = [...this.#blobs.keys()];
    return keys[Math.floor(draw * keys.length)];
  }

  #expire(): void {
    const nowMs = this.#machine.monotonicMs();
    for (const [sha256, { endMs }] of this.#blobs) if (endMs <= nowMs) this.#blobs.delete(sha256);
  }
}

/** The bytes with the last one changed, or the first half. */
export function damaged(bytes: Uint8Array, isCutOff: boolean): Uint8Array {
  if (isCutOff) return bytes.slice(0, bytes.byteLength >> 1);
  const changed = new Uint8Array(bytes);
  const last = changed.byteLength - 1;
  changed[last] = (changed[last] ?? 0) ^ 1;
  return changed;
}

/** Told of each command that the server carries out, before it does. */
export type CommandWatch = (command: ServerCommand) => void;

export type ServerCommand = { readonly by: SimulatedProcess } & Carried;

type Carried =
  | {
      readonly name: 'add';
      readonly jobs: readonly { readonly jobId: string; readonly job: CarriedJob }[];
    }
  | { readonly name: 'remove'; readonly jobIds: readonly string[] }
  | { readonly name: 'delete-blob'; readonly sha256: string }
  | { readonly name: 'remove-leftovers'; readonly runId: string; readonly epoch: number }
  | { readonly name: 'lease-taken'; readonly epoch: number }
  | { readonly name: 'worker-lost'; readonly jobId: string }
  | { readonly name: 'complete' | 'fail' | 'hand-back' | 'taken'; readonly jobId: string };

const ADDRESS = 'simulation';
export const NOT_OPENED = 'the simulated server cannot be opened';
/** The share that is lost of the replies and wake-ups of a machine that loses some. */
const LOST_SHARE = 0.4;
const RECONNECT_POLL_MS = 200;
/** A client replaces a connection on which a command has had no answer for so long. */
const SOCKET_TIMEOUT_MS = 10_000;

/** How a client treats a command whose reply does not come. */
type Persistence = 'fails-at-once' | 'sends-again';

type Ask<Answer> = () => Promise<Answer>;

export class ServerLink implements JobQueue {
  readonly address = ADDRESS;
  readonly #process: SimulatedProcess;
  readonly #server: SimulatedServer;
  readonly #watch: CommandWatch;
  readonly #call: QueueCall = queueCallsAt(ADDRESS);
  /** The silences of the machine before its present connection. */
  #silenceCount: number;
  #replacement: Promise<void> | null = null;
  /** Resolves when the last command of the coordinator has arrived: one connection keeps their order. */
  #arrived: Promise<unknown> = Promise.resolve();
  readonly #onReplaced = new Set<() => void>();

  constructor(process: SimulatedProcess, server: SimulatedServer, watch: CommandWatch) {
    this.#process = process;
    this.#server = server;
    this.#watch = watch;
    this.#silenceCount = process.machine.silenceCount;
  }

  async openProducer(start: string): Promise<JobProducer> {
    const inner = await this.#opened(() => this.#server.queue.openProducer(start));
    this.#process.onEnd(() => void inner.close());
    const { kept, told } = this.#commandsOf('fails-at-once');
    const removed = async (jobIds: readonly string[]): Promise<void> => {
      this.#watch({ by: this.#process, name: 'remove', jobIds });
      // As on Redis: jobs that could not be removed stay.
      await kept(() => inner.remove(jobIds)).catch(() => undefined);
    };
    return {
      takeLease: async (runId, holder, over) => {
        const answer = await kept(() => inner.takeLease(runId, holder, over));
        if (answer.kind === 'taken')
          this.#watch({ by: this.#process, name: 'lease-taken', epoch: answer.epoch });
        return answer;
      },
      renewLease: (holder) => kept(() => inner.renewLease(holder)),
      releaseLease: (terms) => kept(() => inner.releaseLease(terms)),
      add: async (jobs) => {
        const { queue } = this.#server;
        // As on Redis: the epoch is compared when the jobs are there, and they are removed again if it has passed.
        await told({ name: 'add', jobs }, () => {
          queue.addUnfenced(jobs);
          return Promise.resolve();
        });
        await kept(() => inner.add([]), 'reads').catch(async (error: unknown) => {
          if (error instanceof RunFencedError) await removed(jobs.map(({ jobId }) => jobId));
          throw error;
        });
      },
      read: async (jobId) => {
        const record = await kept(() => inner.read(jobId), 'reads');
        if (record.state === 'failed' && parseJobFailure(record.reason).kind === 'worker-lost')
          this.#watch({ by: this.#process, name: 'worker-lost', jobId });
        return record;
      },
      remove: removed,
      removeLeftovers: (runId, epoch) =>
        told({ name: 'remove-leftovers', runId, epoch }, () => inner.removeLeftovers(runId, epoch)),
      workers: () => kept(() => inner.workers(), 'reads'),
      quarantine: (worker, durationMs) => kept(() => inner.quarantine(worker, durationMs)),
      subscribe: (listener) => this.#subscribed(inner, listener),
      blobs: (limits) => this.#blobs(limits, 'fails-at-once'),
      close: () => this.#process.lived(() => inner.close()),
    };
  }

  /** The operator of a simulation has a connection that does not fail. */
  openController(): never {
    throw new Error('a simulated process cancels no run');
  }

  async openConsumer(options: OpenConsumerOptions): Promise<JobConsumer> {
    const inner = await this.#opened(() => Promise.resolve(this.#server.queue.enter(options)));
    const forgetReconnect = this.#server.onReconnect(options.onReconnected);
    const commands = { ...this.#faulty(inner), leave: () => this.#left(inner, forgetReconnect) };
    const consumer = new CommandConsumer(commands, this.#process.clock(), options);
    this.#process.onEnd(() => consumer.pause());
    return consumer;
  }

  async #left(inner: ConsumerCommands, forgetReconnect: () => void): Promise<void> {
    forgetReconnect();
    await this.#process.lived(() => inner.leave());
  }

  /** Whoever opens a queue is told at once that its server does not answer, or refuses. */
  async #opened<Opened>(open: Ask<Opened>): Promise<Opened> {
    try {
      return await this.#process.lived(() => this.#asked(open));
    } catch (cause) {
      const found = cause instanceof Error ? cause.message : String(cause);
      throw errorOf('environment', NOT_OPENED, { where: ADDRESS, found, cause });
    }
  }

  #faulty(inner: ConsumerCommands): ConsumerCommands {
    const { kept, told } = this.#commandsOf('sends-again');
    return {
      ...inner,
      take: async (token, waitMs, signal) => {
        const taken = await kept(() => inner.take(token, waitMs, signal));
        if (taken !== null)
          this.#watch({ by: this.#process, name: 'taken', jobId: taken.lock.jobId });
        return taken;
      },
      extend: (lock) => kept(() => inner.extend(lock)),
      end: (lock, outcome) => {
        const { jobId } = lock;
        if (outcome.kind !== 'completed')
          return told({ name: outcome.kind === 'failed' ? 'fail' : 'hand-back', jobId }, () =>
            inner.end(lock, outcome),
          );
        const result = this.#forged(outcome.result);
        return told({ name: 'complete', jobId }, () => inner.end(lock, { ...outcome, result }));
      },
      beat: (jobId) => kept(() => inner.beat(jobId)),
      quarantinedMs: () => kept(() => inner.quarantinedMs(), 'reads'),
      blobs: (limits) => this.#blobs(limits, 'sends-again'),
    };
  }

  /** Whoever has the password of the server can change what a worker has written. The signature stays. */
  #forged(result: JobResult): JobResult {
    const { machine } = this.#process;
    if (machine.resultsToForge === 0) return result;
    machine.resultsToForge -= 1;
    return { ...result, queryRowCount: result.queryRowCount + 1 };
  }

  #subscribed(inner: JobProducer, listener: WakeUp): () => void {
    const { machine } = this.#process;
    const wake = async (...[jobId, record]: Parameters<WakeUp>): Promise<void> => {
      if (machine.eventsToLose > 0 && machine.stream.uniform() < LOST_SHARE) {
        machine.eventsToLose -= 1;
        return;
      }
      await machine.travelled();
      if (this.#server.isAway || machine.isCutOff() || this.#isSilent) return;
      await this.#process.alive();
      listener(jobId, record);
    };
    const unsubscribe = inner.subscribe((jobId, record) => void wake(jobId, record));
    const wakeAll = (): void => void wake(WAKE_ALL);
    const forgetReconnect = this.#server.onReconnect(wakeAll);
    this.#onReplaced.add(wakeAll);
    return () => {
      unsubscribe();
      forgetReconnect();
      this.#onReplaced.delete(wakeAll);
    };
  }

  #blobs({ lifetimeMs }: BlobLimits, persistence: Persistence): BlobStore {
    const server = this.#server;
    const { kept, told } = this.#commandsOf(persistence);
    const found = (ref: BlobRef) => () => promised(() => server.blob(ref, lifetimeMs));
    const removed = (ref: BlobRef) => () => promised(() => server.deleteBlob(ref));
    return {
      put: async (bytes, ref = blobRefOf(bytes)) => {
        await kept(() => promised(() => server.putBlob(ref, bytes, lifetimeMs)));
        return ref;
      },
      get: async (ref) => {
        const bytes = await kept(found(ref), 'reads');
        if (bytes === null) throw new BlobMissingError(ref);
        try {
          return verifiedBlob(bytes, ref, `${ADDRESS}:blob:${ref.sha256}`);
        } catch (spoilt) {
          // A damaged blob is deleted, so that the owner of the bytes can put them again.
          await kept(removed(ref));
          throw spoilt;
        }
      },
      has: async (ref) => (await kept(found(ref), 'reads')) !== null,
      delete: (ref) => told({ name: 'delete-blob', sha256: ref.sha256 }, removed(ref)),
    };
  }

  #commandsOf(persistence: Persistence) {
    const kept = <Answer>(ask: Ask<Answer>, kind: CommandKind = 'writes'): Promise<Answer> =>
      this.#process.lived(() =>
        this.#call(() =>
          persistence === 'sends-again' ? this.#sent(ask, kind) : this.#asked(ask, kind),
        ),
      );
    const told = <Answer>(command: Carried, ask: Ask<Answer>): Promise<Answer> =>
      kept(() => {
        this.#watch({ by: this.#process, ...command });
        return ask();
      });
    return { kept, told };
  }

  /** A command that fails while the server cannot be reached, or when its reply is lost. */
  async #asked<Answer>(ask: Ask<Answer>, kind: CommandKind = 'writes'): Promise<Answer> {
    const { machine } = this.#process;
    const arrived = Promise.all([this.#arrived, machine.travelled()]);
    this.#arrived = arrived;
    await arrived;
    if (this.#isSilent) {
      await this.#replaced();
      throw new Error('Socket timeout. Expecting data, but did not receive any in 10000ms.');
    }
    if (this.#isUnreachable()) throw new Error('connect ECONNREFUSED');
    this.#server.demand(kind);
    const connection = this.#server.connectionNumber;
    const answer = await ask();
    await machine.travelled();
    if (this.#isReplyLost(connection)) throw new Error('Connection is closed.');
    return answer;
  }

  /** A command that waits for the server, and is sent again when its reply is lost. */
  async #sent<Answer>(ask: Ask<Answer>, kind: CommandKind): Promise<Answer> {
    const { machine } = this.#process;
    for (;;) {
      await machine.travelled();
      if (this.#process.isOver) return new Promise(() => undefined);
      if (this.#isSilent) await this.#replaced();
      if (this.#isUnreachable()) {
        await this.#server.up();
        await machine.time.sleep(RECONNECT_POLL_MS);
        continue;
      }
      this.#server.demand(kind);
      const connection = this.#server.connectionNumber;
      const answer = await ask();
      await machine.travelled();
      if (!this.#isReplyLost(connection)) return answer;
    }
  }

  get #isSilent(): boolean {
    return this.#silenceCount < this.#process.machine.silenceCount;
  }

  /** Resolves when the client has given up the silent connection and has another one. */
  #replaced(): Promise<void> {
    const { machine } = this.#process;
    this.#replacement ??= machine.time.sleep(SOCKET_TIMEOUT_MS).then(() => {
      this.#silenceCount = machine.silenceCount;
      this.#replacement = null;
      for (const listener of this.#onReplaced) listener();
    });
    return this.#replacement;
  }

  #isUnreachable(): boolean {
    return this.#server.isAway || this.#process.machine.isCutOff();
  }

  #isReplyLost(connection: number): boolean {
    const { machine } = this.#process;
    if (this.#isUnreachable() || this.#server.connectionNumber !== connection) return true;
    if (machine.repliesToLose === 0 || machine.stream.uniform() > LOST_SHARE) return false;
    machine.repliesToLose -= 1;
    return true;
  }
}

/** A signal with as many listeners as a simulation needs: those of killed processes stay on it. */
export function patientSignal(controller: AbortController): AbortSignal {
  setMaxListeners(Number.POSITIVE_INFINITY, controller.signal);
  return controller.signal;
}
