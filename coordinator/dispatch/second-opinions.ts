/**
 * Has jobs of one step computed again by other workers: those whose result is doubted, and a share that is drawn.
 * A worker whose bits two others contradict is distrusted, and nothing of it is used any more (decision 0018).
 */

import { QianmoError } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { EXCLUDED_WORKERS_MAX, type Job, type JobResult } from '../../shared/queue/protocol.js';
import { ANSWER_COUNT_MAX, bitsOf, JobAnswers } from '../trust/job-answers.js';
import type { JobDelivery } from './job-delivery.js';
import type { WorkerHealth } from './worker-health.js';

interface SecondOpinionsOptions {
  readonly health: WorkerHealth;
  readonly sink: RunEventSink;
  /** Whether a job is computed twice although its result is not doubted. */
  readonly recomputes: (job: Job) => boolean;
  readonly connectedWorkers: () => Promise<readonly string[]>;
}

interface Opinion {
  readonly answers: JobAnswers;
  /** The bits of the result that was admitted; null as long as none was. */
  admittedBits: string | null;
  excluded: readonly string[];
  /** Whether its first result was doubted, rather than drawn. */
  isDoubted: boolean;
}

const NO_OPINION = { admittedBits: null, excluded: [], isDoubted: false };

/**
 * Results of this step that were handed out are false, or may be. The step has to be taken again.
 */
export class FalseResultsError extends QianmoError {}

export class SecondOpinions {
  readonly #options: SecondOpinionsOptions;
  readonly #opinions = new Map<JobDelivery, Opinion>();
  readonly #admittedWorkers = new Set<string>();

  constructor(options: SecondOpinionsOptions) {
    this.#options = options;
  }

  /** Jobs that have an admitted result and wait for another one. */
  get openCount(): number {
    return [...this.#opinions.values()].filter(({ admittedBits }) => admittedBits !== null).length;
  }

  /** The jobs on whose admitted result workers disagree, with these workers. */
  get disputes(): ReadonlyMap<JobDelivery, readonly string[]> {
    const settled = [...this.#opinions].filter(([, { admittedBits }]) => admittedBits !== null);
    const answers = settled.map(([delivery, of]) => [delivery, of.answers.workers] as const);
    return new Map(answers.filter(([, workers]) => workers.length > 1));
  }

  /**
   * The workers that the next delivery of a job must not go to, as far as a job can name them.
   *
   * @param delivery null for the first one.
   */
  excludedFrom(delivery: JobDelivery | null): readonly string[] {
    const { distrusted } = this.#options.health;
    const excluded = delivery === null ? [] : (this.#opinions.get(delivery)?.excluded ?? []);
    return [...new Set([...distrusted, ...excluded])].slice(-EXCLUDED_WORKERS_MAX);
  }

  /** Whether a result of this worker for the job is of use. */
  isAsked(worker: string, delivery: JobDelivery): boolean {
    const excluded = this.#opinions.get(delivery)?.excluded ?? [];
    return !excluded.includes(worker) && !this.#options.health.distrusted.includes(worker);
  }

  isSettled(delivery: JobDelivery): boolean {
    return (this.#opinions.get(delivery)?.admittedBits ?? null) !== null;
  }

  /** Whether the result repeats the bits of a result that was doubted. */
  isConfirmed(delivery: JobDelivery, result: JobResult): boolean {
    return this.#opinions.get(delivery)?.answers.has(bitsOf(result)) ?? false;
  }

  /**
   * Notes a result that is doubted. Returns whether another worker may settle it; otherwise the attempt has
   * failed.
   */
  async doubt(delivery: JobDelivery, result: JobResult): Promise<boolean> {
    const opinion = this.#opinionOn(delivery);
    opinion.isDoubted = true;
    const { answers } = opinion;
    const isNew = !answers.workers.includes(result.worker);
    answers.add(result);
    opinion.excluded = (await this.#hasOther(answers.workers)) ? answers.workers : [];
    return isNew && answers.workers.length < ANSWER_COUNT_MAX;
  }

  /** Notes a result that was admitted. Returns whether another worker has to compute the job too. */
  async admitted(delivery: JobDelivery, result: JobResult): Promise<boolean> {
    this.#admittedWorkers.add(result.worker);
    const known = this.#opinions.get(delivery);
    if (known === undefined && !this.#options.recomputes(delivery.job)) return false;
    const opinion = known ?? this.#opinionOn(delivery);
    opinion.admittedBits = bitsOf(result);
    opinion.answers.add(result);
    if (known !== undefined) return this.#isOpenAfter(delivery, opinion);
    if (!(await this.#hasOther([result.worker])))
      return this.#dropped(delivery, 'no other worker is connected and healthy');
    opinion.excluded = [result.worker];
    return true;
  }

  /**
   * Weighs another result of a job that has an admitted one. Returns whether a further worker has to decide.
   *
   * @throws FalseResultsError when results of this step that were handed out are false, or may be;
   *   QianmoError `failed` when three workers disagree.
   */
  async weigh(delivery: JobDelivery, result: JobResult): Promise<boolean> {
    const opinion = this.#opinionOn(delivery);
    opinion.answers.add(result);
    return this.#isOpenAfter(delivery, opinion);
  }

  /** A worker that was excluded has left the job to others. Returns whether the job stays open. */
  async declined(delivery: JobDelivery): Promise<boolean> {
    const opinion = this.#opinions.get(delivery);
    if (opinion === undefined || (await this.#hasOther(opinion.excluded))) return true;
    if (opinion.admittedBits === null) {
      opinion.excluded = [];
      return true;
    }
    // Where two disagree, the step waits for a third as long as it may.
    if (opinion.answers.workers.length > 1) return true;
    return this.#dropped(delivery, 'no other worker is connected and healthy');
  }

  /** A worker failed at a job that has an admitted result. Returns whether the job stays open. */
  failed(delivery: JobDelivery, reason: string): boolean {
    const answers = this.#opinions.get(delivery)?.answers.workers ?? [];
    return answers.length > 1 || this.#dropped(delivery, reason);
  }

  async #isOpenAfter(delivery: JobDelivery, opinion: Opinion): Promise<boolean> {
    const verdict = opinion.answers.verdict();
    const { workers } = opinion.answers;
    const { outerStep, jobIndex } = delivery.job;
    switch (verdict.kind) {
      case 'unlike':
        throw unlikeResults(delivery, workers);
      case 'agreed':
        this.#opinions.delete(delivery);
        this.#distrust(delivery, verdict.liars);
        if (
          verdict.bits !== opinion.admittedBits ||
          verdict.liars.some((liar) => this.#admittedWorkers.has(liar))
        )
          throw falseResults(delivery, verdict.liars);
        return false;
      case 'open':
        // The only worker has confirmed itself.
        if (workers.length === 1) return !this.#opinions.delete(delivery);
        this.#options.sink({ kind: 'results-disagree', outerStep, jobIndex, workers });
        if (opinion.isDoubted && !(await this.#hasOther(workers)))
          return this.#blamed(delivery, workers);
        opinion.excluded = workers;
        return true;
    }
  }

  #distrust({ job: { outerStep, jobIndex } }: JobDelivery, liars: readonly string[]): void {
    const reason = 'two other workers agree on another result of a job';
    for (const worker of liars)
      this.#options.health.distrust(worker, {
        ...{ kind: 'worker-distrusted', outerStep, jobIndex, reason },
      });
  }

  /** Nobody else can say who is right, but the result of the first worker was odd. */
  #blamed(delivery: JobDelivery, [worker = '']: readonly string[]): false {
    this.#opinions.delete(delivery);
    const reason =
      'the norm of a gradient is far from what is usual, and another worker computed another';
    this.#options.health.sick(worker, reason);
    return false;
  }

  #dropped(delivery: JobDelivery, reason: string): false {
    this.#opinions.delete(delivery);
    const { outerStep, jobIndex } = delivery.job;
    this.#options.sink({ kind: 'job-not-recomputed', outerStep, jobIndex, reason });
    return false;
  }

  #opinionOn(delivery: JobDelivery): Opinion {
    const opinion = this.#opinions.get(delivery) ?? { answers: new JobAnswers(), ...NO_OPINION };
    this.#opinions.set(delivery, opinion);
    return opinion;
  }

  async #hasOther(workers: readonly string[]): Promise<boolean> {
    const { health, connectedWorkers } = this.#options;
    return health.hasHealthyOther(workers, await connectedWorkers());
  }
}

function unlikeResults({ where }: JobDelivery, workers: readonly string[]): QianmoError {
  return new QianmoError({
    kind: 'failed',
    what: 'three workers gave three results of one job',
    where,
    expected: 'the same bits from each worker',
    found: `workers ${workers.join(', ')}`,
    cure: 'find out which of these machines is sound, and continue with --resume on sound ones',
  });
}

function falseResults({ where }: JobDelivery, liars: readonly string[]): FalseResultsError {
  return new FalseResultsError({
    kind: 'failed',
    what: `results of worker ${liars.join(', ')} are not to be trusted`,
    where,
    cure: 'take the machine out of the pool, and continue with --resume',
  });
}
