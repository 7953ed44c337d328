/**
 * The outer steps whose jobs are with workers. With staleness, the jobs of the next outer steps leave before
 * the results of earlier ones are applied, so that workers do not wait for the coordinator.
 */

import { at } from '../../shared/base/arrays.js';
import type { StalenessConfig } from '../../shared/config/staleness-config.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { TrainingState } from '../checkpoints/training-state.js';
import type { Admitted, CallTerms, ReadResult, TaskOrder } from '../dispatch/dispatcher.js';
import type { FrozenInput } from '../plan/row-pack-gather.js';
import { sentDense, sentPacks } from '../plan/orders/sent-parameters.js';
import {
  costOf,
  dividesJobs,
  overlapOf,
  partsOf,
  wholeJobs,
  type JobPart,
  type WorkerShares,
} from '../plan/orders/job-parts.js';
import { encodeRowPacks, ordersOf, type PackOf } from '../plan/orders/step-orders.js';
import type { StepPlan, StepPlanner } from '../plan/step-plan.js';
import type { RunTables } from '../tables/run-tables.js';
import { jobWeightsOf, partWeightsOf } from './gradient-aggregate.js';
import { planAhead, type PlanAhead } from './plan-ahead.js';
import { joinedParts } from './gradients/joined-parts.js';
import type { GradientNorms } from './gradient-norms.js';
import {
  gradientShapesOf,
  type GradientShapes,
  type JobGradient,
} from './gradients/job-gradient.js';
import { partByteCountMax, partReader, type PartGradient } from './gradients/part-gradient.js';
import type { RunLength } from './run-length.js';
import type { StepClosings } from './step-closing.js';
import type { StepTimes } from './step-times.js';
import type { TrainOptions } from './train-options.js';
import { WorkerPace } from './worker-pace.js';

/** An outer step whose jobs have left. */
interface StepUnderWay {
  readonly plan: StepPlan;
  readonly orders: readonly TaskOrder[];
  /** By job index. */
  readonly layouts: readonly RowPackLayout[];
  /** The sums of the task weights, by job index. */
  readonly weights: readonly number[];
  /** Yields gradients as they arrive. When called again, it sends all jobs again with the same inputs. */
  readonly gradients: (
    norms: Pick<GradientNorms, 'judgeOf'>,
  ) => AsyncIterable<Admitted<JobGradient>>;
}

interface StepPipeline {
  /** Sends the jobs that may leave in this state, and returns the outer step whose gradients come next. */
  oldest(state: TrainingState): Promise<StepUnderWay>;
  /**
   * Must be called when the oldest outer step has its gradients, before they are applied. Returns what the
   * state of the next outer step keeps of it.
   */
  completeOldest(): Pick<TrainingState, 'remainders'>;
  /** Whether a resume from this state would send the jobs of the next outer step with the same inputs. */
  isResumable(state: TrainingState): boolean;
  /** Takes all jobs back. They are sent again with the parameters of the next state. */
  recall(): Promise<void>;
  /** Takes all jobs back for good. */
  close(): Promise<void>;
}

interface PipelineParts {
  readonly planner: StepPlanner;
  readonly tables: Pick<RunTables, 'gather'>;
  readonly frozen: FrozenInput | null;
  readonly closings: StepClosings;
  readonly length: Pick<RunLength, 'endOf'>;
  /** The kind of machine that must compute the jobs, once the run has one. */
  readonly fingerprint: () => string | null;
  /** Begun with each outer step. */
  readonly times: StepTimes;
  /** Called when a pause holds back the jobs of the oldest outer step, so that nothing else happens meanwhile. */
  readonly onHeldBack: () => Promise<void>;
}

interface SentStep extends StepUnderWay {
  /** The outer step of the state whose parameters the jobs have. */
  readonly parametersOf: number;
  /** What rounding has taken from the dense variables that were sent; absent without rounding. */
  readonly remainders: TrainingState['remainders'];
  /** Resolves when its jobs are off the queue, after the signal has aborted. */
  ended(): Promise<void>;
}

export function stepPipeline(options: TrainOptions, parts: PipelineParts): StepPipeline {
  const { run, caller } = options;
  const { staleness } = run.config.training;
  const underWay: SentStep[] = [];
  let completed: SentStep | undefined;
  let recalled = new AbortController();
  const onAbort = (): void => recalled.abort();
  caller.signal.addEventListener('abort', onAbort, { once: true });

  const recall = async (): Promise<void> => {
    recalled.abort();
    await Promise.all(underWay.splice(0).map((step) => step.ended()));
    recalled = new AbortController();
    if (caller.signal.aborted) onAbort();
  };
  if (caller.signal.aborted) onAbort();
  const pace = new WorkerPace();
  const ahead = planAhead(parts.planner, pace);
  const sending = ({ closings, onHeldBack }: PipelineParts): SendingParts => ({
    ...{ options, parts, ahead, pace, signal: recalled.signal },
    // Later outer steps may be held back while the oldest one is under way.
    terms: underWay.length === 0 ? { ...closings.terms, onHeldBack } : closings.terms,
  });
  return {
    recall,
    async oldest(state) {
      parts.times.begin();
      const end = Math.min(parts.length.endOf(state), sendingEndOf(state, staleness));
      for (let next = state.outerStep + underWay.length; next < end; next += 1)
        underWay.push(await sent(next, withRemaindersOf(underWay, state), sending(parts)));
      return at(underWay, 0);
    },
    completeOldest() {
      completed = underWay.shift();
      for (const { orders } of underWay) encodeRowPacks(orders);
      return completed?.remainders === undefined ? {} : { remainders: completed.remainders };
    },
    isResumable({ outerStep }) {
      // A failure may come between the results of an outer step and the state after it.
      const oldest = completed?.plan.outerStep === outerStep ? completed : underWay[0];
      if (oldest === undefined) return true;
      return oldest.plan.outerStep === outerStep && oldest.parametersOf === outerStep;
    },
    async close() {
      caller.signal.removeEventListener('abort', onAbort);
      await recall();
    },
  };
}

/** The state, with the remainders of the outer step that was sent last. */
function withRemaindersOf(underWay: readonly SentStep[], state: TrainingState): TrainingState {
  const remainders = underWay.at(-1)?.remainders;
  return remainders === undefined ? state : { ...state, remainders };
}

/**
 * The first outer step whose jobs may not leave yet. At a multiple of `drainEveryOuterSteps`, and where a task was
 * quarantined, none leaves before all results have been applied.
 */
function sendingEndOf(
  { outerStep, quarantinedTasks = [] }: TrainingState,
  staleness: StalenessConfig | undefined,
): number {
  if (staleness === undefined) return outerStep + 1;
  const { drainEveryOuterSteps } = staleness;
  const drained = (Math.floor(outerStep / drainEveryOuterSteps) + 1) * drainEveryOuterSteps;
  const recalled = quarantinedTasks.map((task) => task.outerStep).filter((at) => at > outerStep);
  return Math.min(outerStep + staleness.outerSteps + 1, drained, ...recalled);
}

interface SendingParts {
  readonly options: TrainOptions;
  readonly parts: PipelineParts;
  readonly ahead: PlanAhead;
  readonly pace: WorkerPace;
  readonly signal: AbortSignal;
  readonly terms: CallTerms;
}

async function sent(
  outerStep: number,
  state: TrainingState,
  { options, parts, ahead, pace, signal, terms }: SendingParts,
): Promise<SentStep> {
  const { run, dispatcher } = options;
  const { planner, tables, frozen, closings, times } = parts;
  const plan = await times.during('sample', () => planner.take(outerStep, state.quarantinedTasks));
  const { training } = run.config;
  const shapes = gradientShapesOf(plan, run.spec, training.encodings?.gradients);
  const gathered = await times.during('pack', () => tables.gather(shapes.layouts));
  const pack = sentPacks(gathered, outerStep, run.config);
  const packOf: PackOf = (jobIndex) => times.took('pack', () => pack(jobIndex));
  const names = frozen === null ? undefined : run.spec.learned.variables;
  const dense = times.took('pack', () =>
    sentDense(state.metaParameters, training.encodings, state.remainders, names),
  );
  const fingerprint = parts.fingerprint();
  const jobParts = sendsParts(options)
    ? partsOf(plan, sharesOf(pace, options, shapes))
    : wholeJobs(plan);
  const context = { run, packOf, frozen, fingerprint, parts: jobParts };
  const orders = ordersOf(plan, dense.bytes, context);
  const asksBefore = orders.some(({ job }) => 'queryLossBefore' in job.work);
  const partShapes = { ...shapes, parts: jobParts, asksBefore };

  let read: ReadResult<JobGradient | PartGradient> = () => 'not_of_this_step';
  const send = (): AsyncIterable<Admitted<JobGradient | PartGradient>> =>
    dispatcher.run(closings.ordersOf(orders), (each) => read(each), signal, terms);
  let unread: ReturnType<typeof send> | null = send();
  return {
    ...{ plan, orders, weights: jobWeightsOf(plan) },
    ...{ layouts: shapes.layouts, parametersOf: state.outerStep, remainders: dense.remainders },
    gradients(norms) {
      read = partReader(partShapes, norms.judgeOf(partWeightsOf(plan, jobParts)));
      const results = unread ?? send();
      unread = null;
      const noted = pace.noted(times.waitedFor(results), costsOf(plan, jobParts));
      return joinedParts(ahead.during(noted, orders.length), plan, partShapes);
    },
    async ended() {
      const first = unread?.[Symbol.asyncIterator]().next();
      // The signal has aborted, so there is no result, and the jobs are taken back.
      await first?.catch(() => undefined);
    },
  };
}

/** A replay may leave out jobs that the record left out, by their indices. */
function sendsParts({ run: { config }, start }: TrainOptions): boolean {
  return start.replay === undefined && dividesJobs(config);
}

function sharesOf(
  pace: WorkerPace,
  { run: { config }, dispatcher }: TrainOptions,
  shapes: GradientShapes,
): WorkerShares {
  return {
    workerCount: () => pace.withConnected(dispatcher.executorCount?.() ?? 0),
    msPerCost: pace.msPerCost,
    stepCount: overlapOf(config),
    carriesPartsOf: (jobIndex) =>
      partByteCountMax(shapes, jobIndex) <= config.queue.blobByteCountMax,
  };
}

/** By order. */
function costsOf({ jobs }: Pick<StepPlan, 'jobs'>, parts: readonly JobPart[]): number[] {
  return parts.map(({ jobIndex, microBatches }) => {
    const { cut } = at(jobs, jobIndex);
    return costOf(cut.slice(microBatches?.first, microBatches?.end));
  });
}
