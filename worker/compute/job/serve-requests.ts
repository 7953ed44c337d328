/**
 * The child's side of the channel: parses requests, computes them in turn, answers each once, and
 * reports its progress meanwhile.
 */

import { z } from 'zod';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import { assertNever, QianmoError } from '../../../shared/base/errors.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { JobInput } from '../../../shared/queue/job-executor.js';
import type { BlobRef } from '../../../shared/storage/blob-store.js';
import { openObjectStore, s3OptionsOf } from '../../../shared/storage/open-object-store.js';
import { loadNativeRows } from '../../../shared/tensors/native-rows.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import {
  ComputeRequestSchema,
  HELD_JOB_COUNT_MAX,
  SHARED_KEPT_COUNT,
  computeFailureOf,
  type ComputeReply,
  type ComputeRequest,
  type SharedKind,
  type JobProgress,
  type OnProgress,
} from '../../process/compute-protocol.js';
import { createExecutor, type ExecutorOptions, type LocalExecutor } from './create-executor.js';

/** The least time between two messages of one phase. */
const REPORT_INTERVAL_MS = 100;
/** The time between two repeated messages of an idle thread. */
const BEAT_INTERVAL_MS = 1_000;

interface ProgressReporter {
  readonly report: OnProgress;
  /**
   * Begins the reports of a job; the returned function ends them.
   *
   * @param isAnnounced whether the parent was told with the answer before that the thread turns to this job.
   */
  begin(requestId: number, isAnnounced?: boolean): () => void;
}

interface ReportedJob {
  readonly requestId: number;
  latest: JobProgress | null;
  /** The phase that the parent knows of. */
  toldPhase: JobProgress['phase'] | null;
  sentMs: number;
}

export function progressReporter(
  send: (reply: ComputeReply) => void,
  clock: Clock,
): ProgressReporter {
  let underWay: ReportedJob | null = null;

  const sendLatest = (): void => {
    if (underWay === null || underWay.latest === null) return;
    underWay.sentMs = clock.monotonicMs();
    underWay.toldPhase = underWay.latest.phase;
    send({ kind: 'progress', requestId: underWay.requestId, progress: underWay.latest });
  };
  const beat = async (ended: AbortSignal): Promise<void> => {
    for (;;) {
      await clock.sleep(BEAT_INTERVAL_MS, ended);
      if (ended.aborted) return;
      sendLatest();
    }
  };

  return {
    report: (progress) => {
      if (underWay === null) return;
      const isOtherPhase = progress.phase !== underWay.toldPhase;
      underWay.latest = progress;
      if (progress.phase === 'reading') return;
      if (isOtherPhase || clock.monotonicMs() - underWay.sentMs >= REPORT_INTERVAL_MS) sendLatest();
    },
    begin: (requestId, isAnnounced = false) => {
      const ended = new AbortController();
      const told = isAnnounced
        ? { toldPhase: 'computing' as const, sentMs: clock.monotonicMs() }
        : { toldPhase: null, sentMs: 0 };
      underWay = { requestId, latest: null, ...told };
      void beat(ended.signal);
      return () => {
        // A reason of one's own spares the exception that the platform would make for each job.
        ended.abort('ended');
        underWay = null;
      };
    },
  };
}

export interface Channel {
  readonly receive: (onMessage: (message: unknown) => void) => void;
  readonly send: (reply: ComputeReply) => void;
}

type RequestOf<Kind extends ComputeRequest['kind']> = Extract<ComputeRequest, { kind: Kind }>;
type OpenStore = ExecutorOptions['openStore'];
type Environment = Readonly<Record<string, string | undefined>>;

/**
 * @param environment of this process, for the report of its device.
 * @param openStoreOf where stores come from; tests put stores in memory here.
 */
export function serveRequests(
  { receive, send }: Channel,
  environment: Environment,
  openStoreOf: (request: RequestOf<'start'>) => OpenStore = openStoreOnDisk,
  clock: Clock = systemClock,
): void {
  const service = new ComputeService(send, environment, openStoreOf, clock);
  let turn: Promise<void> = Promise.resolve();
  const fail = (requestId: number | null, error: unknown): void => {
    const report = computeFailureOf(error);
    send({ kind: 'failed', requestId, report, residentByteCount: residentByteCount() });
  };
  receive((message) => {
    const parsed = ComputeRequestSchema.safeParse(message);
    try {
      if (!parsed.success) throw unknownRequest(parsed.error);
      const { requestId, answer } = service.take(parsed.data);
      if (answer === null) return;
      turn = turn.then(async () => {
        try {
          const reply = await answer();
          if (reply !== null) send(reply);
        } catch (error) {
          fail(requestId, error);
        }
      });
    } catch (error) {
      fail(null, error);
    }
  });
}

/** A request's work, which waits for its turn; null for a request that only brings inputs. */
interface Taken {
  readonly requestId: number | null;
  readonly answer: (() => Promise<ComputeReply | null>) | null;
}

class ComputeService {
  readonly #send: Channel['send'];
  readonly #environment: Environment;
  readonly #openStoreOf: (request: RequestOf<'start'>) => OpenStore;
  readonly #reporter: ProgressReporter;
  /** By digest; the parent keeps count of what is held here. */
  readonly #shared: Readonly<Record<SharedKind, LruCache<string, Uint8Array>>> = {
    dense: new LruCache({ countMax: SHARED_KEPT_COUNT }),
    frozen: new LruCache({ countMax: SHARED_KEPT_COUNT }),
  };
  #executor: LocalExecutor | null = null;
  /** Jobs that have not begun, by request. */
  readonly #prepared = new Map<number, JobInput>();
  /** Requests to execute that have not begun, in turn. */
  #waiting: number[] = [];
  /** The job that the latest answer named as the next one. */
  #announced: number | null = null;

  constructor(
    send: Channel['send'],
    environment: Environment,
    openStoreOf: (request: RequestOf<'start'>) => OpenStore,
    clock: Clock,
  ) {
    this.#send = send;
    this.#environment = environment;
    this.#openStoreOf = openStoreOf;
    this.#reporter = progressReporter(send, clock);
  }

  take(request: ComputeRequest): Taken {
    switch (request.kind) {
      case 'start':
        return { requestId: null, answer: () => this.#start(request) };
      case 'shared':
        this.#keepShared(request);
        return { requestId: null, answer: null };
      case 'prepare':
        this.#prepare(request);
        return { requestId: null, answer: null };
      case 'execute': {
        const { requestId } = request;
        if (!this.#prepared.has(requestId)) throw new Error('a job came before its inputs');
        this.#waiting.push(requestId);
        return { requestId, answer: () => this.#execute(requestId) };
      }
      case 'forget':
        this.#forget(request.requestId);
        return { requestId: null, answer: null };
      default:
        return assertNever(request);
    }
  }

  async #start(request: RequestOf<'start'>): Promise<ComputeReply> {
    if (request.rowAddon !== null) loadNativeRows(request.rowAddon);
    this.#executor = await createExecutor({
      openStore: this.#openStoreOf(request),
      backend: request.backend,
      device: request.device,
      environment: this.#environment,
      onEvent: (event) => this.#send({ kind: 'event', event }),
      onProgress: this.#reporter.report,
    });
    return { kind: 'ready', device: this.#executor.device };
  }

  #keepShared({ of, sha256, bytes }: RequestOf<'shared'>): void {
    this.#shared[of].put(sha256, bytes);
  }

  #sharedOf(of: SharedKind, { sha256 }: BlobRef): Uint8Array {
    const input = this.#shared[of].get(sha256);
    if (input === undefined) throw new Error(`a job came before its ${of} inputs`);
    return input;
  }

  #prepare({ requestId, job, rowPack, given }: RequestOf<'prepare'>): void {
    const dense = this.#sharedOf('dense', job.dense);
    const frozen = job.frozen === undefined ? null : this.#sharedOf('frozen', job.frozen);
    if (this.#prepared.size >= HELD_JOB_COUNT_MAX) throw new Error('too many jobs came at once');
    this.#prepared.set(requestId, { job, dense, rowPack, frozen, given });
    this.#executor?.prepare({ job, given });
  }

  #forget(requestId: number): void {
    const input = this.#prepared.get(requestId);
    if (input === undefined) return;
    this.#prepared.delete(requestId);
    this.#executor?.forget(input);
  }

  /** Returns null if the job has been dropped meanwhile. */
  async #execute(requestId: number): Promise<ComputeReply | null> {
    if (this.#executor === null) throw new Error('a job came before the start');
    // A job that follows another at once would begin before a request to drop it was read.
    await new Promise((resolve) => setImmediate(resolve));
    this.#waiting = this.#waiting.filter((waiting) => waiting !== requestId);
    const input = this.#prepared.get(requestId);
    if (input === undefined) return null;
    this.#prepared.delete(requestId);
    const stopReporting = this.#reporter.begin(requestId, requestId === this.#announced);
    try {
      const computed = await this.#executor.execute(input);
      return {
        ...{ kind: 'done', requestId, ...computed },
        ...this.#next(),
        residentByteCount: residentByteCount(),
      };
    } finally {
      stopReporting();
    }
  }

  /** The job that begins at once; it may be dropped before it does. */
  #next(): { readonly next?: number } {
    const next = this.#waiting.find((waiting) => this.#prepared.has(waiting));
    this.#announced = next ?? null;
    return next === undefined ? {} : { next };
  }
}

function residentByteCount(): number {
  return process.memoryUsage.rss();
}

function unknownRequest(error: z.ZodError): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the compute process was sent a request it does not know',
    found: z.prettifyError(error),
    cure: 'rebuild, so that parent and child are of one version: npm run build',
  });
}

function openStoreOnDisk({ storeCacheByteCountMax }: RequestOf<'start'>): OpenStore {
  return ({ address, digest, storage }) =>
    openTaskStore(address, {
      expectedDigest: digest,
      cacheByteCountMax: storeCacheByteCountMax,
      objectStoreOf: (object) => openObjectStore(object, s3OptionsOf(storage)),
    });
}
