/**
 * Several executors that share the jobs of a run. A job goes to the first one that is free, in the order in which
 * jobs come, and an executor that computes has the inputs of its next job in advance.
 */

import type { JobExecutor, JobInput, JobOutput } from '../../../shared/queue/job-executor.js';

interface LaneJob {
  /** Makes the inputs when an executor takes the job, so that few of them are in memory. */
  readonly makeInput: () => JobInput;
  /** Stops the computation. */
  readonly signal: AbortSignal;
  /** Aborts when nobody wants the result any more. A job that no executor has begun is dropped then. */
  readonly over: AbortSignal;
}

/** A job that no executor has begun. */
interface WaitingJob extends LaneJob {
  readonly resolve: (output: JobOutput) => void;
  readonly reject: (error: unknown) => void;
}

interface TakenJob extends WaitingJob {
  readonly input: JobInput;
}

interface Lane {
  readonly executor: JobExecutor;
  /** A job that was taken begins when its inputs have been sent, which must not wait for those of the next one. */
  state: 'free' | 'taken' | 'begun';
  /** The job whose inputs the executor has in advance. */
  ahead: TakenJob | null;
}

export class ExecutorLanes {
  readonly #lanes: Lane[] = [];
  readonly #waiting: WaitingJob[] = [];

  constructor(executors: readonly JobExecutor[]) {
    this.add(executors);
  }

  get count(): number {
    return this.#lanes.length;
  }

  /** They take jobs that wait at once. */
  add(executors: readonly JobExecutor[]): void {
    for (const executor of executors) this.#lanes.push({ executor, state: 'free', ahead: null });
    this.#beginAll();
  }

  /** @throws what the executor throws. The promise of a job that is dropped never settles. */
  execute(job: LaneJob): Promise<JobOutput> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...job, resolve, reject });
      this.#beginAll();
      for (const lane of this.#lanes) if (lane.state === 'begun') this.#prepareNext(lane);
    });
  }

  #beginAll(): void {
    for (const lane of this.#lanes) {
      if (lane.state !== 'free') continue;
      const next = this.#nextOf(lane);
      if (next !== null) this.#begin(lane, next);
    }
  }

  #begin(lane: Lane, job: TakenJob): void {
    lane.state = 'taken';
    const onBegin = (): void => {
      lane.state = 'begun';
      this.#prepareNext(lane);
    };
    const ended = (): void => {
      lane.state = 'free';
      this.#beginAll();
    };
    lane.executor
      .execute(job.input, job.signal, onBegin)
      .then(job.resolve, job.reject)
      .then(ended, ended);
  }

  #prepareNext(lane: Lane): void {
    if (lane.ahead !== null || lane.executor.prepare === undefined) return;
    lane.ahead = this.#takeWaiting();
    if (lane.ahead !== null) lane.executor.prepare(lane.ahead.input);
  }

  #nextOf(lane: Lane): TakenJob | null {
    return takeAhead(lane) ?? this.#takeWaiting() ?? this.#takenBack();
  }

  /** The job that a busy executor has in advance. */
  #takenBack(): TakenJob | null {
    for (const lane of this.#lanes) {
      const job = takeAhead(lane);
      if (job === null) continue;
      lane.executor.forget?.(job.input);
      return job;
    }
    return null;
  }

  #takeWaiting(): TakenJob | null {
    for (;;) {
      const job = this.#waiting.shift();
      if (job === undefined) return null;
      if (job.over.aborted) continue;
      try {
        return { ...job, input: job.makeInput() };
      } catch (error) {
        job.reject(error);
      }
    }
  }
}

/** Null also where the caller of the job has gone. */
function takeAhead(lane: Lane): TakenJob | null {
  const { ahead, executor } = lane;
  lane.ahead = null;
  if (ahead?.over.aborted !== true) return ahead;
  executor.forget?.(ahead.input);
  return null;
}
