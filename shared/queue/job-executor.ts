/**
 * The interface between carrying a job and computing it. The worker's compute process implements
 * it; the work loop and the in-memory dispatcher call it. It takes and returns bytes and needs no
 * tensor library.
 */

import type { FoundDevice } from '../events/device-report.js';
import type { EncodedFeature } from '../tasks/store-manifest.js';
import type { TaskRows } from '../tasks/task-store.js';
import type { Job } from './protocol.js';

/** The rows of a job's tasks, where no task store has them. */
export interface GivenTasks {
  readonly features: readonly EncodedFeature[];
  /** By task index, as the model reads them (`trained-padding.ts`), without support inputs. */
  readonly tasks: readonly TaskRows[];
}

export interface JobInput {
  readonly job: Job;
  /** Safetensors bytes, see `protocol.ts`. */
  readonly dense: Uint8Array;
  readonly rowPack: Uint8Array | null;
  /**
   * The same for every job of a run, so an executor caches what it makes of it, by digest. Null
   * when the job has none.
   */
  readonly frozen: Uint8Array | null;
  /** Read in place of the store that the job names, which is not opened. */
  readonly given?: GivenTasks | undefined;
}

export interface JobOutput {
  readonly output: Uint8Array;
  readonly queryRowCount: number;
  readonly computeMs: number;
  readonly backend: string;
  readonly fingerprint: string;
}

export interface JobExecutor {
  /**
   * Ends a job that takes longer than its `timeoutMs`. Preparations such as starting a process have a bound of their own.
   *
   * @throws QianmoError `data` for a job that can never succeed, `transient` when another attempt
   *   may succeed (the compute process died or passed its deadline), `environment` when this machine
   *   failed and not the job (its disk is full, its compute process does not start), any kind with
   *   `isOfThisMachine` when another machine may succeed.
   */
  execute(input: JobInput, signal?: AbortSignal): Promise<JobOutput>;
  /**
   * Announces the input that is executed next, so that its bytes can travel while another job is
   * computed, and the job can begin as soon as that one has ended. It never throws and changes no result.
   * A second call replaces the first; null takes it back, because another worker computes the job.
   */
  prepare?(input: JobInput | null): void;
  /** Resident memory of the process that computes, after its last job; null before one, absent where nobody measures it. */
  residentByteCount?(): number | null;
  /** The device that computes; null before it is known, absent where nobody asks. */
  foundDevice?(): FoundDevice | null;
  close(): Promise<void>;
}
