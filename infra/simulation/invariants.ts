/** The invariants that hold after every event of a simulation. The first violation ends it. */

import { RunFencedError } from '../../shared/storage/lease.js';
import { z } from 'zod';
import { isInterruption, QianmoError } from '../../shared/base/errors.js';
import type { TrainingOutcome } from '../../coordinator/training/train-options.js';
import type { RunEvent, RunEventOf } from '../../shared/events/run-events.js';
import { inputRefsOf, type JobResult, type CarriedJob } from '../../shared/queue/protocol.js';
import { jobKeyOf, toldLossesOf, type ComputedPart, type Reference } from './reference.js';
import { NOT_OPENED, type CommandWatch, type ServerCommand } from './simulated-server.js';
import type { SimulatedProcess, VirtualTime } from './machines.js';
import {
  JOB_ATTEMPTS_MAX,
  LARGE_BLOBS,
  madeOnce,
  OUTER_STEPS,
  QUERY_ROWS_PER_TASK,
  REFUSAL_WAIT_MS,
  type Variant,
} from './simulated-run.js';
import type { SimulatedStore, StoreWatch } from './simulated-store.js';
import {
  bestOf,
  blobsOf,
  LATEST_KEY,
  parseManifest,
  type CheckpointManifest,
  type ValidatedStep,
} from '../../coordinator/checkpoints/checkpoint-manifest.js';
import { blobKeyOf, blobRefOf } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';

/** A healthy cluster admits a result within this time: it outlasts locks, leases, rests and quarantines. */
const PROGRESS_MS = 240_000;
const FENCED_MS_MAX = 60_000;
/** A disturbed delivery has failed by then: its lock has ended, or its deadline has passed. */
const FAILING_MS_MAX = 120_000;
const OPEN_JOB_COUNT_MAX = 256;
/** The window of jobs under way, where some of the workers that are counted have just died. */
const HELD_PACK_COUNT_MAX = 18;

const CLAIM_KEY = 'coordinator.json';
const ClaimSchema = z.looseObject({ epoch: z.number() });

export interface Violation {
  readonly invariant: string;
  readonly detail: string;
  readonly atMs: number;
}

/** A job that was put on the queue, as its coordinator sees it. */
interface OpenJob {
  /** That of its delivery. */
  readonly jobId: string;
  readonly job: CarriedJob;
  readonly by: SimulatedProcess;
  readonly addedMs: number;
}

/** The simulated cluster, as the invariants see it. */
interface Observed {
  readonly time: VirtualTime;
  readonly store: SimulatedStore;
  readonly largeBlobs: SimulatedStore;
  readonly variant: Variant;
  /** Records an event. */
  note(by: string, what: string): void;
}

export class Invariants {
  violation: Violation | null = null;
  readonly #world: Observed;
  readonly #reference: Reference;
  readonly lives: CoordinatorLife[] = [];
  /** By the id of the job, which has one delivery at a time. */
  readonly #open = new Map<string, OpenJob>();
  /** The ids of deliveries that have ended. */
  readonly #ended = new Set<string>();
  readonly #lossCountByJob = new Map<string, number>();
  #progressMs = 0;
  /** Until when something is disturbed. */
  #disturbedMs = -Infinity;
  #latestStep = 0;
  /** The claim under which the pointer was replaced last. */
  #pointerEpoch = 0;
  isAnyObjectDamaged = false;
  /** Whether a coordinator has warned of a checkpoint that it cannot read. */
  #isDamageTold = false;
  readonly #checkpoints: CheckedCheckpoints;

  constructor(world: Observed, reference: Reference) {
    this.#world = world;
    this.#checkpoints = new CheckedCheckpoints(world.store.objects);
    this.#reference = reference;
  }

  get nowMs(): number {
    return this.#world.time.nowMs;
  }

  violate(invariant: string, detail: string): void {
    this.violation ??= { invariant, detail, atMs: this.nowMs };
  }

  /** @param durationMs how long the disturbance lasts from now. */
  disturb(durationMs = 0): void {
    this.#disturbedMs = Math.max(this.#disturbedMs, this.nowMs + durationMs);
  }

  /** Called when nothing more can happen at this time. */
  readonly afterEach = (): void => {
    if (this.violation !== null) throw new Error('an invariant is violated');
    const quietMs = this.nowMs - Math.max(0, this.#progressMs, this.#disturbedMs);
    if (quietMs > PROGRESS_MS)
      this.violate('a healthy cluster makes progress', `no result for ${PROGRESS_MS / 1000} s`);
    if (this.#open.size > OPEN_JOB_COUNT_MAX)
      this.violate('the window of open jobs is bounded', `${this.#open.size} jobs are open`);
    this.#checkFenced();
  };

  /** A coordinator that has lost its lease learns of it and ends. */
  #checkFenced(): void {
    const newest = Math.max(0, ...this.lives.map(({ epoch }) => epoch));
    for (const { process, epoch } of this.lives) {
      if (process.isOver || epoch === 0 || epoch === newest) continue;
      const since = this.lives.find((life) => life.epoch === newest)?.startMs ?? 0;
      const quietMs = this.nowMs - Math.max(since, this.#disturbedMs);
      if (quietMs > FENCED_MS_MAX && !process.isSuspended)
        this.violate('a fenced coordinator stops', `${process.name} goes on under epoch ${epoch}`);
    }
  }

  numberOf(process: SimulatedProcess): number {
    return this.#lifeOf(process).number;
  }

  #lifeOf(process: SimulatedProcess): CoordinatorLife {
    const known = this.lives.find((life) => life.process === process);
    if (known !== undefined) return known;
    const life: CoordinatorLife = {
      ...{ process, number: this.lives.length + 1, startMs: this.nowMs, endMs: Infinity },
      ...{ epoch: 0, hasBegun: false, troubledMs: -Infinity, lastStoreKey: '', claimEpoch: 0 },
      ...{ failureCountByJob: new Map(), isCancelled: false },
    };
    this.lives.push(life);
    return life;
  }

  onLifeEnd(process: SimulatedProcess): void {
    this.#lifeOf(process).endMs = this.nowMs;
    this.disturb();
  }

  /** @param wasTold whether it was told to stop. */
  onCoordinatorEnd(process: SimulatedProcess, error: unknown, wasTold: boolean): void {
    if (wasTold && isInterruption(error)) return;
    const reason = unexplainedEnd(error, this.#lifeOf(process), {
      lives: this.lives,
      nowMs: this.nowMs,
      isAnyObjectDamaged: this.isAnyObjectDamaged,
      storeAddress: this.#world.store.objects.address,
      waitsForStore: this.#world.variant.waitsForStore,
    });
    if (reason !== null)
      this.violate('a coordinator ends for a reason', `${process.name}: ${reason}`);
  }

  /** The run is complete. */
  onOutcome({ state: { outerStep, validated }, digest }: TrainingOutcome): void {
    // The parameters with the lowest validation loss, or the last if there is none or its checkpoint is said to be damaged.
    const { outerStep: chosenStep } = bestOf(validated) ?? { outerStep };
    const steps = this.#isDamageTold ? [chosenStep, outerStep] : [chosenStep];
    if (!steps.some((step) => digest === this.#reference.digestByStep.get(step)))
      this.violate('the run ends with the digest of the undisturbed run', `it has ${digest}`);
    const length = this.#reference.validated.at(-1)?.outerStep ?? OUTER_STEPS;
    if (outerStep !== length)
      this.violate('a run has its length', `${outerStep} outer steps instead of ${length}`);
  }

  /** @param held what a call holds before its next result is taken */
  onHeld(process: SimulatedProcess, { packCount }: { readonly packCount: number }): void {
    // Outer steps that overlap keep their row packs, as an outer step may be taken again.
    if (packCount > HELD_PACK_COUNT_MAX && !this.#world.variant.overlaps)
      this.violate(
        'a coordinator holds the inputs of jobs under way alone',
        `${process.name} holds ${packCount} row packs`,
      );
  }

  /** @param count row packs of outer steps that are long over */
  onPacksLeft(process: SimulatedProcess, count: number): void {
    if (count > 0)
      this.violate(
        'a coordinator lets row packs go',
        `${process.name} has ${count} of outer steps that are long over`,
      );
  }

  onWorkerEnd(name: string, error: unknown): void {
    this.#world.note(name, `ends: ${error instanceof Error ? error.message : String(error)}`);
    if (!(error instanceof QianmoError))
      this.violate(
        'a worker ends for a reason',
        `${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
  }

  onEvent(process: SimulatedProcess, event: RunEvent): void {
    const life = this.#lifeOf(process);
    if (event.kind === 'run-started') life.hasBegun = true;
    if (event.kind === 'outer-step') this.#checkLosses(event);
    if (event.kind === 'run-cancelled') life.isCancelled = true;
    if (event.kind === 'warning' && event.code === 'checkpoint-damaged') this.#isDamageTold = true;
    if (event.kind === 'redis-away' || event.kind === 'redis-refuses') life.troubledMs = this.nowMs;
    if (event.kind === 'redis-back' || event.kind === 'redis-accepts') life.troubledMs = this.nowMs;
    if (event.kind === 'job-retried' && event.cause === 'lost') this.#closeLost(process, event);
    if (event.kind === 'job-retried' && (event.cause === 'failed' || event.cause === 'rejected'))
      this.#countFailure(life, event);
  }

  #countFailure(
    { failureCountByJob, process }: CoordinatorLife,
    { outerStep, jobIndex, reason }: RunEventOf<'job-retried'>,
  ): void {
    const job = `${outerStep}/${jobIndex}`;
    failureCountByJob.set(job, (failureCountByJob.get(job) ?? 0) + 1);
    if (this.nowMs - this.#disturbedMs > FAILING_MS_MAX)
      this.violate('a delivery fails for a reason', `${process.name}, job ${job}: ${reason}`);
  }

  /** Losses by size too, whatever the order in which results came. */
  #checkLosses(event: RunEventOf<'outer-step'>): void {
    const expected = this.#reference.lossesByStep.get(event.outerStep);
    if (toldLossesOf(event) === expected) return;
    this.violate('losses equal those of the undisturbed run', `outer step ${event.outerStep}`);
  }

  onAdmitted(
    process: SimulatedProcess,
    job: ComputedPart | undefined,
    { result, isSecond }: { readonly result: JobResult; readonly isSecond: boolean },
  ): void {
    this.#progressMs = this.nowMs;
    const { outerStep, jobIndex } = result;
    this.#world.note(process.name, `admits ${outerStep}/${jobIndex}`);
    const what = `${process.name}, outer step ${outerStep}, job ${jobIndex}`;
    if (isSecond) this.violate('a job is admitted once', what);
    const taskCount = job !== undefined && 'taskIndices' in job ? job.taskIndices.length : 0;
    if (result.queryRowCount !== QUERY_ROWS_PER_TASK * taskCount)
      this.violate('an admitted result has the rows of its job', what);
    const expected = job && this.#reference.resultByJob.get(jobKeyOf(job));
    if (job === undefined || job.outerStep !== outerStep)
      this.violate('an admitted result is that of its job', what);
    // Parts of a job that is searched for a poison task are not in the reference.
    else if (expected !== undefined && expected !== (result.sums?.blob ?? result.output).sha256)
      this.violate('an admitted result equals that of the undisturbed run', what);
  }

  readonly onCommand: CommandWatch = (command) => {
    const { by } = command;
    this.#world.note(by.name, commandLine(command));
    switch (command.name) {
      case 'lease-taken':
        this.#lifeOf(by).epoch = command.epoch;
        return;
      case 'add':
        for (const { jobId, job } of command.jobs) {
          this.#demandInputsStored(jobId, job, by);
          this.#opened(jobId, job, by);
        }
        return;
      case 'remove':
        for (const jobId of command.jobIds) this.#closeDeliveries(jobId);
        return;
      case 'complete':
      case 'fail':
        this.#closeDeliveries(command.jobId);
        return;
      case 'worker-lost':
        this.#countLoss(command.jobId, by);
        return;
      case 'remove-leftovers':
        this.#forgetJobsOfOthers(by, command.epoch);
        return;
      case 'delete-blob':
        this.#demandUnused(by, command.sha256);
        return;
      default:
    }
  };

  /** Losses count unless the server was away since the delivery. */
  #countLoss(jobId: string, by: SimulatedProcess): void {
    const base = withoutAttempt(jobId);
    const open = this.#open.get(base);
    if (open?.jobId !== jobId) return;
    this.#open.delete(base);
    if (this.#lifeOf(by).troubledMs >= open.addedMs) return;
    const count = (this.#lossCountByJob.get(base) ?? 0) + 1;
    this.#lossCountByJob.set(base, count);
    if (count > JOB_ATTEMPTS_MAX)
      this.violate('the workers that a job costs are bounded', `${base} has cost ${count}`);
  }

  /** A job that is added again, because no answer came, may have ended meanwhile. */
  #opened(jobId: string, job: CarriedJob, by: SimulatedProcess): void {
    if (this.#ended.has(jobId)) return;
    this.#closeDeliveries(jobId);
    this.#open.set(withoutAttempt(jobId), { jobId, job, by, addedMs: this.nowMs });
    this.#ended.delete(jobId);
  }

  /** A job ends with its delivery. */
  #closeDeliveries(jobId: string): void {
    this.#ended.add(jobId);
    this.#open.delete(withoutAttempt(jobId));
  }

  /** The queue does not tell of a delivery that it has lost. */
  #closeLost(
    by: SimulatedProcess,
    { outerStep, jobIndex }: Readonly<Record<'outerStep' | 'jobIndex', number>>,
  ): void {
    for (const { jobId, job, by: owner } of this.#open.values())
      if (owner === by && job.outerStep === outerStep && job.jobIndex === jobIndex)
        this.#closeDeliveries(jobId);
  }

  #forgetJobsOfOthers(by: SimulatedProcess, epoch: number): void {
    for (const [base, open] of this.#open)
      if (open.by !== by && open.job.epoch < epoch) this.#open.delete(base);
  }

  /** The queue's own server gets inputs before jobs, over one connection. An object store has them first. */
  #demandInputsStored(jobId: string, job: CarriedJob, by: SimulatedProcess): void {
    const newest = Math.max(0, ...this.lives.map(({ epoch }) => epoch));
    if (job.largeBlobs === undefined || this.#lifeOf(by).epoch !== newest) return;
    for (const input of [job.dense, job.rowPack, job.frozen])
      if (input !== undefined && input.byteCount >= LARGE_BLOBS.byteCountMin)
        if (!this.#world.largeBlobs.keys.has(blobKeyOf(input)))
          this.violate('large inputs are stored before their job is sent', jobId);
  }

  #demandUnused(by: SimulatedProcess, sha256: string): void {
    for (const { jobId, job, by: owner } of this.#open.values()) {
      if (owner === by && inputRefsOf(job).some((input) => input.sha256 === sha256))
        this.violate('an input is kept while a job needs it', `${by.name} deletes one of ${jobId}`);
    }
  }

  readonly onStoreChange: StoreWatch = ({ by, name, key, bytes }) => {
    const life = this.#lifeOf(by);
    if (name !== 'read') this.#world.note(by.name, `store ${name} ${key}`);
    if (bytes !== undefined && key === CLAIM_KEY)
      life.claimEpoch = ClaimSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8'))).epoch;
    if (name === 'put' && key === 'latest.json') {
      this.#demandClaimChecked(life);
      this.#demandNewestClaim(life);
    }
    life.lastStoreKey = key;
    if (name !== 'read') void this.#checkCheckpoint();
  };

  /** Between the check and the write a coordinator may be suspended, so only the check is demanded. */
  #demandClaimChecked({ process, lastStoreKey }: CoordinatorLife): void {
    if (lastStoreKey !== CLAIM_KEY)
      this.violate(
        'a checkpoint is written under a claim',
        `${process.name} has not looked at its claim before the pointer was replaced`,
      );
  }

  /** A later coordinator may have replaced the pointer, which names the latest checkpoint and leads to the best. */
  #demandNewestClaim({ process, claimEpoch }: CoordinatorLife): void {
    if (claimEpoch < this.#pointerEpoch)
      this.violate(
        'a pointer is replaced by the latest coordinator that did',
        `${process.name} replaces it under claim ${claimEpoch} after claim ${this.#pointerEpoch}`,
      );
    this.#pointerEpoch = claimEpoch;
  }

  async #checkCheckpoint(): Promise<void> {
    const { store } = this.#world;
    const found = await this.#checkpoints.latest(store.damagedKeys);
    if (found === null) return;
    if ('problem' in found) {
      this.violate('the latest checkpoint is whole', found.problem);
      return;
    }
    const { outerStep, digest } = found;
    this.#checkBest(found);
    if (digest !== this.#reference.digestByStep.get(outerStep))
      this.violate(
        'a checkpoint equals that of the undisturbed run',
        `outer step ${outerStep} has digest ${digest.slice(0, 12)}`,
      );
    if (outerStep < this.#latestStep && !this.isAnyObjectDamaged && this.lives.length === 1)
      this.violate(
        'checkpoints do not go back',
        `from outer step ${this.#latestStep} to ${outerStep}`,
      );
    this.#latestStep = outerStep;
  }

  /** The pointer to the latest checkpoint leads to the best one up to it. */
  #checkBest({ outerStep, validated, best }: WholeCheckpoint): void {
    const { validated: expected, digestByStep } = this.#reference;
    if (validated.some(({ loss }, place) => loss !== expected[place]?.loss))
      this.violate(
        'validation losses are those of the undisturbed run',
        `up to outer step ${outerStep}`,
      );
    const lowest = bestOf(validated);
    const own = lowest === null || lowest.outerStep === outerStep ? null : lowest.outerStep;
    // Where the best one is damaged, no pointer leads to it.
    if ((best?.outerStep ?? null) !== own && !this.isAnyObjectDamaged)
      this.violate(
        'the latest checkpoint names the best one',
        `${best?.outerStep ?? 'none'} instead of ${own ?? 'none'}, after outer step ${outerStep}`,
      );
    if (best !== null && best.digest !== digestByStep.get(best.outerStep))
      this.violate('the best checkpoint equals that of the undisturbed run', best.digest);
  }
}

/** The id of a delivery without its number. */
function withoutAttempt(jobId: string): string {
  return jobId.replace(/-a\d+-/, '-');
}

function commandLine(command: ServerCommand): string {
  switch (command.name) {
    case 'add':
      return `add ${command.jobs.map(({ jobId }) => jobId).join(' ')}`;
    case 'remove':
      return `remove ${command.jobIds.join(' ')}`;
    case 'delete-blob':
      return `delete-blob ${command.sha256.slice(0, 12)}`;
    case 'lease-taken':
    case 'remove-leftovers':
      return `${command.name} ${command.epoch}`;
    default:
      return `${command.name} ${command.jobId}`;
  }
}

const PointerSchema = z.looseObject({ manifest: z.string() });

interface WholeCheckpoint {
  readonly outerStep: number;
  readonly digest: string;
  readonly validated: readonly ValidatedStep[];
  /** The checkpoint that is named as the best one; null if that is this one, or none is named. */
  readonly best: { readonly outerStep: number; readonly digest: string } | null;
}

type FoundCheckpoint = WholeCheckpoint | { readonly problem: string };

/** Reads the checkpoints of one store. Each version of an object is parsed and hashed once. */
class CheckedCheckpoints {
  readonly #store: ObjectStore;
  readonly #manifest = madeOnce<CheckpointManifest>();
  readonly #sha256 = madeOnce<string>();

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /**
   * Null before the first checkpoint.
   *
   * @param damagedKeys objects that a fault has changed, which are not looked at.
   */
  async latest(damagedKeys: ReadonlySet<string>): Promise<FoundCheckpoint | null> {
    const pointer = await this.#store.get(LATEST_KEY);
    if (pointer === null) return null;
    const { manifest: key } = PointerSchema.parse(
      JSON.parse(Buffer.from(pointer.bytes).toString('utf8')),
    );
    const manifest = await this.#whole(key, damagedKeys);
    if ('problem' in manifest) return manifest;
    const { outerStep, metaParametersDigest: digest, validated = [] } = manifest;
    const found = { outerStep, digest, validated };
    if (manifest.best === undefined) return { ...found, best: null };
    const best = await this.#whole(manifest.best.manifest, damagedKeys);
    if ('problem' in best) return best;
    return { ...found, best: { outerStep: best.outerStep, digest: best.metaParametersDigest } };
  }

  async #whole(
    key: string,
    damagedKeys: ReadonlySet<string>,
  ): Promise<CheckpointManifest | { readonly problem: string }> {
    const object = await this.#store.get(key);
    if (object === null) return { problem: `${key} is not there` };
    const manifest = this.#manifest(key + object.etag, () => parseManifest(object.bytes, key));
    for (const ref of blobsOf(manifest)) {
      const blobKey = blobKeyOf(ref);
      if (damagedKeys.has(blobKey)) continue;
      const blob = await this.#store.get(blobKey);
      if (blob === null) return { problem: `${blobKey} of ${key} is not there` };
      const sha256 = this.#sha256(blobKey + blob.etag, () => blobRefOf(blob.bytes).sha256);
      if (sha256 !== ref.sha256) return { problem: `${blobKey} of ${key} has other bytes` };
    }
    return manifest;
  }
}

/** The beats of a dead coordinator may arrive this late. */
const LATE_BEAT_MS = 30_000;
/** A command gives up after this time at the start of a run. */
const OPEN_TIMEOUT_MS = 30_000;

/** The course of one coordinator, from the start of its process to the end. */
interface CoordinatorLife {
  readonly process: SimulatedProcess;
  readonly number: number;
  readonly startMs: number;
  endMs: number;
  epoch: number;
  hasBegun: boolean;
  /** When the server last failed to answer it or refused. */
  troubledMs: number;
  lastStoreKey: string;
  /** The epoch of its claim on the checkpoints; 0 before it has one. */
  claimEpoch: number;
  /** Failed deliveries of each job, as `outer step/job`. */
  readonly failureCountByJob: Map<string, number>;
  isCancelled: boolean;
}

interface Circumstances {
  readonly lives: readonly CoordinatorLife[];
  readonly nowMs: number;
  readonly isAnyObjectDamaged: boolean;
  readonly storeAddress: string;
  /** Whether calls of the store are repeated while it is away, once it has answered. */
  readonly waitsForStore: boolean;
}

/** Null if the end is explained, else its description. */
function unexplainedEnd(
  error: unknown,
  life: CoordinatorLife,
  circumstances: Circumstances,
): string | null {
  if (!(error instanceof QianmoError))
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  const { lives, nowMs, isAnyObjectDamaged, storeAddress } = circumstances;
  const others = lives.filter((other) => other !== life);
  const isExplained = (): boolean => {
    if (error instanceof RunFencedError)
      return others.some(({ number, endMs }) => number > life.number || endMs > life.startMs);
    const isOfStore = error.message.includes('simulated store');
    const isOfCheckpoints = error.report.where?.startsWith(storeAddress) === true;
    switch (error.kind) {
      case 'taken':
        return others.some(({ endMs }) => endMs > life.startMs - LATE_BEAT_MS);
      case 'transient':
        if (isOfStore && isOfCheckpoints && circumstances.waitsForStore)
          return life.lastStoreKey === '';
        if (isOfStore) return true;
        return (
          nowMs - life.startMs >= OPEN_TIMEOUT_MS - 1_000 &&
          !error.report.what.startsWith('an outer step did not get')
        );
      case 'failed':
        return (life.failureCountByJob.get(jobIn(error)) ?? 0) >= JOB_ATTEMPTS_MAX - 1;
      case 'environment':
        return (
          error.report.what === NOT_OPENED ||
          ((error.report.where ?? '').startsWith(storeAddress) && isAnyObjectDamaged) ||
          error.message.includes('no connected worker is healthy') ||
          nowMs - life.startMs >= (life.hasBegun ? REFUSAL_WAIT_MS : OPEN_TIMEOUT_MS - 1_000)
        );
      case 'data':
        return isAnyObjectDamaged;
      case 'cancelled':
        return life.isCancelled;
      case 'interrupted':
      case 'usage':
        return false;
    }
  };
  return isExplained() ? null : `${error.message}; found ${error.report.found ?? 'nothing'}`;
}

/** The job that the error names, as `outer step/job`. */
function jobIn({ report: { where = '' } }: QianmoError): string {
  const [, outerStep, jobIndex] = /outer step (\d+), \w+ job (\d+)/.exec(where) ?? [];
  return `${outerStep}/${jobIndex}`;
}
