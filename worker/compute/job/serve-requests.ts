/**
 * The child's side of the channel: parses requests, computes them in turn, answers each once, and
 * reports its progress meanwhile.
 */

import { z } from 'zod';
import { systemClock, type Clock } from '../../../shared/base/clock.js';
import { type QianmoError, assertNever, errorOf } from '../../../shared/base/errors.js';
import { LruCache } from '../../../shared/base/lru-cache.js';
import type { JobInput } from '../../../shared/queue/job-executor.js';
import type { BlobRef } from '../../../shared/storage/blob-store.js';
import { loadNativeRows } from '../../../shared/tensors/native-rows.js';
import {
  ComputeRequestSchema,
  HELD_JOB_COUNT_MAX,
  SHARED_KEPT_COUNT,
  computeFailureOf,
  type ComputeReply,
  type ComputeRequest,
  type SharedKind,
  type JobProgress,
} from '../../process/compute-protocol.js';
import { type ExecutorOptions, type LocalExecutor } from './create-executor.js';

/** The least time between two messages of one phase. */
const REPORT_INTERVAL_MS = 100;

export interface Channel {
  readonly receive: (onMessage: (message: unknown) => void) => void;
  readonly send: (reply: ComputeReply) => void;
}

type RequestOf<Kind extends ComputeRequest['kind']> = Extract<ComputeRequest, { kind: Kind }>;
type StartRequest = RequestOf<'start'>;

/** The executor that a start request asks for; tests have one that loads no tensor library. */
type CreateExecutor = (
  request: StartRequest,
  reports: Pick<ExecutorOptions, 'onEvent' | 'onProgress'>,
) => Promise<Pick<LocalExecutor, 'device' | 'execute' | 'readAhead' | 'forget'>>;

export function serveRequests(
  { receive, send }: Channel,
  createExecutor: CreateExecutor,
  clock: Clock = systemClock,
): void {
  const service = new ComputeService(send, createExecutor, clock);
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
  readonly #createExecutor: CreateExecutor;
  /** The job under way, with the phase that the parent knows of. */
  #underWay: { requestId: number; phase: JobProgress['phase'] | null; sentMs: number } | null =
    null;
  /** By digest; the parent keeps count of what is held here. */
  readonly #shared: Readonly<Record<SharedKind, LruCache<string, Uint8Array>>> = {
    dense: new LruCache({ countMax: SHARED_KEPT_COUNT }),
    frozen: new LruCache({ countMax: SHARED_KEPT_COUNT }),
  };
  #executor: Awaited<ReturnType<CreateExecutor>> | null = null;
  /** Jobs that have not begun, by request. */
  readonly #waiting = new Map<number, JobInput>();
  readonly #clock: Clock;

  constructor(send: Channel['send'], createExecutor: CreateExecutor, clock: Clock) {
    this.#send = send;
    this.#createExecutor = createExecutor;
    this.#clock = clock;
  }

  take(request: ComputeRequest): Taken {
    switch (request.kind) {
      case 'start':
        return { requestId: null, answer: () => this.#start(request) };
      case 'shared':
        this.#keepShared(request);
        return { requestId: null, answer: null };
      case 'execute':
        this.#hold(request);
        return { requestId: request.requestId, answer: () => this.#execute(request.requestId) };
      case 'drop':
        this.#drop(request.requestId);
        return { requestId: null, answer: null };
      default:
        return assertNever(request);
    }
  }

  async #start(request: StartRequest): Promise<ComputeReply> {
    if (request.rowAddon !== null) loadNativeRows(request.rowAddon);
    this.#executor = await this.#createExecutor(request, {
      onEvent: (event) => this.#send({ kind: 'event', event }),
      onProgress: (progress) => this.#report(progress),
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

  #hold({ requestId, job, rowPack, given }: RequestOf<'execute'>): void {
    const dense = this.#sharedOf('dense', job.dense);
    const frozen = job.frozen === undefined ? null : this.#sharedOf('frozen', job.frozen);
    if (this.#waiting.size >= HELD_JOB_COUNT_MAX) throw new Error('too many jobs came at once');
    this.#waiting.set(requestId, { job, dense, rowPack, frozen, given });
    this.#executor?.readAhead({ job, given });
  }

  #drop(requestId: number): void {
    const input = this.#waiting.get(requestId);
    if (input === undefined) return;
    this.#waiting.delete(requestId);
    this.#executor?.forget(input);
  }

  /** Returns null if the job was dropped meanwhile. */
  async #execute(requestId: number): Promise<ComputeReply | null> {
    if (this.#executor === null) throw new Error('a job came before the start');
    // A job that follows another at once would begin before a request to drop it was read.
    await new Promise((resolve) => setImmediate(resolve));
    const input = this.#waiting.get(requestId);
    if (input === undefined) return null;
    this.#waiting.delete(requestId);
    this.#underWay = { requestId, phase: null, sentMs: 0 };
    try {
      const computed = await this.#executor.execute(input);
      return {
        ...{ kind: 'done', requestId, ...computed },
        residentByteCount: residentByteCount(),
      };
    } finally {
      this.#underWay = null;
    }
  }

  /** Reports each phase at once, and progress within a phase at a bounded rate. */
  #report(progress: JobProgress): void {
    if (this.#underWay === null) return;
    const { requestId, phase, sentMs } = this.#underWay;
    const nowMs = this.#clock.monotonicMs();
    if (progress.phase === phase && nowMs - sentMs < REPORT_INTERVAL_MS) return;
    this.#underWay = { requestId, phase: progress.phase, sentMs: nowMs };
    this.#send({ kind: 'progress', requestId, progress });
  }
}

function residentByteCount(): number {
  return process.memoryUsage.rss();
}

function unknownRequest(error: z.ZodError): QianmoError {
  return errorOf('data', 'the compute process was sent a request it does not know', {
    found: z.prettifyError(error),
    cure: 'rebuild, so that parent and child are of one version: npm run build',
  });
}
