/**
 * The seam between carrying a job and computing it. The worker's compute process implements it;
 * the queue worker and the in-memory dispatcher call it. Bytes in, bytes out: no tensor library.
 */

import type { Job } from './protocol.js';

export interface JobInput {
  readonly job: Job;
  /** Safetensors bytes, see `protocol.ts`. */
  readonly dense: Uint8Array;
  /** Null where the job has none; likewise `frozen`. */
  readonly rowPack: Uint8Array | null;
  /** The same for every job of a run: an executor keeps what it made of it, by its digest. */
  readonly frozen: Uint8Array | null;
}

export interface JobOutput {
  readonly output: Uint8Array;
  readonly weightedQueryLoss: number;
  readonly weightedSupportLoss: number;
  readonly queryRowCount: number;
  readonly computeMs: number;
  readonly backend: string;
}

export interface JobExecutor {
  /**
   * @param onBegin to be called when the job begins, from which its `timeoutMs` counts: what the
   *   executor needs first, as the start of a process, has a bound of its own.
   * @throws QianmoError of kind `data` for a job that can never succeed, `transient` when another
   *   try may (the compute process died or passed its deadline); of any kind and `isOfThisMachine`
   *   when another machine may.
   */
  execute(input: JobInput, signal?: AbortSignal, onBegin?: () => void): Promise<JobOutput>;
  /**
   * A hint that this very input is executed next, so that its bytes can travel while another job is
   * computed. Never throws and changes no result; a second hint replaces the first.
   */
  prepare?(input: JobInput): void;
  close(): Promise<void>;
}
