/**
 * The outer steps whose jobs are with workers. With staleness, the jobs of the next outer steps leave before
 * the results of earlier ones are applied, so that workers do not wait for the coordinator.
 */

import { at } from '../../shared/base/arrays.js';
import type { StalenessConfig } from '../../shared/config/training-config.js';
import { sumByteCountOf } from '../../shared/sums/gradient-node.js';
import { outputByteCountOf } from '../../shared/sums/delivered-sums.js';
import type { TrainingState } from '../checkpoints/checkpoint-manifest.js';
import type { Admitted, JobOrder } from '../dispatch/dispatcher.js';
import {
  cutIntoDeliveries,
  type Delivery,
  type WorkerShares,
  withJoins,
} from '../plan/deliveries.js';
import { encodeDense, type FrozenInput, keepRowPacks, ordersOf } from '../plan/step-orders.js';
import { layoutOf, type StepPlan, type StepPlanner } from '../plan/step-plan.js';
import type { RunTables } from './run-tables.js';
import { deliveryReader, type ReadDelivery, shapesOf } from './step-sum.js';
import type { StepTimes } from './step-report.js';
import type { TrainOptions } from './train-options.js';
import type { JobResult } from '../../shared/queue/protocol.js';

interface StepUnderWay {
  readonly plan: StepPlan;
  /** Those that compute leaves. */
  readonly orders: readonly JobOrder[];
  /** Yields sums as they arrive. When called again, it sends all jobs again with the same inputs. */
  readonly deliveries: () => AsyncIterable<Admitted<ReadDelivery>>;
}

interface PipelineParts {
  readonly planner: StepPlanner;
  readonly tables: Pick<RunTables, 'encodePack'>;
  readonly frozen: FrozenInput | null;
  readonly endOuterStep: number;
  readonly fingerprint: () => string | null;
  /** Begun with each outer step. */
  readonly times: StepTimes;
}

interface SentStep extends StepUnderWay {
  /** The outer step of the state whose parameters the jobs have. */
  readonly parametersOf: number;
  /** Resolves when its jobs are off the queue, after the signal has aborted. */
  ended(): Promise<void>;
}

export function stepPipeline(options: TrainOptions, parts: PipelineParts) {
  const { run, caller } = options;
  const { staleness } = run.config.training;
  const underWay: SentStep[] = [];
  let completed: SentStep | undefined;
  let recalled = new AbortController();
  const onAbort = (): void => recalled.abort();
  caller.signal.addEventListener('abort', onAbort, { once: true });
  if (caller.signal.aborted) onAbort();
  /** Takes all jobs back. They are sent again with the parameters of the next state. */
  const recall = async (): Promise<void> => {
    recalled.abort();
    await Promise.all(underWay.splice(0).map((step) => step.ended()));
    recalled = new AbortController();
    if (caller.signal.aborted) onAbort();
  };
  const pace = new WorkerPace();
  return {
    recall,
    /** Sends the jobs that may leave in this state, and returns the outer step whose sums come next. */
    async oldest(state: TrainingState): Promise<StepUnderWay> {
      parts.times.begin();
      const end = Math.min(parts.endOuterStep, sendingEndOf(state, staleness));
      for (let next = state.outerStep + underWay.length; next < end; next += 1)
        underWay.push(await send(next, state, { options, parts, pace, signal: recalled.signal }));
      return at(underWay, 0);
    },
    /** Must be called when the oldest outer step has its sums, before they are applied. */
    completeOldest(): void {
      completed = underWay.shift();
      for (const { orders } of underWay) keepRowPacks(orders);
    },
    /** Whether a resume from this state would send the jobs of the next outer step with the same inputs. */
    isResumable({ outerStep }: TrainingState): boolean {
      // A failure may come between the results of an outer step and the state after it.
      const oldest = completed?.plan.outerStep === outerStep ? completed : underWay[0];
      if (oldest === undefined) return true;
      return oldest.plan.outerStep === outerStep && oldest.parametersOf === outerStep;
    },
    /** Takes all jobs back for good. */
    async close(): Promise<void> {
      caller.signal.removeEventListener('abort', onAbort);
      await recall();
    },
  };
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
  readonly pace: WorkerPace;
  readonly signal: AbortSignal;
}

async function send(
  outerStep: number,
  state: TrainingState,
  { options, parts, pace, signal }: SendingParts,
): Promise<SentStep> {
  const { run, dispatcher } = options;
  const { planner, tables, frozen, times } = parts;
  const plan = await times.during('sample', () => planner.take(outerStep, state.quarantinedTasks));
  const cut = cutIntoDeliveries(plan.leaves, sharesOf(pace, dispatcher));
  const layouts = times.took('pack', () => cut.map((delivery) => layoutOf(plan, delivery)));
  const { joinedSumByteCountMin, blobByteCountMax } = run.config.queue;
  const areLarge = layouts.some((of) => sumByteCountOf(run.spec, of) >= joinedSumByteCountMin);
  const joined =
    dispatcher.joinsSums === true && areLarge ? withJoins(cut, plan.leaves.length) : cut;
  const isReadable = (delivery: Delivery): boolean =>
    delivery.keepsSums === true ||
    outputByteCountOf(shapesOf(run.spec, plan, delivery)) <= blobByteCountMax;
  const deliveries = joined.every(isReadable) ? joined : cut;
  const names = frozen === null ? undefined : run.spec.learned.variables;
  const dense = times.took('pack', () => encodeDense(state.metaParameters, names));
  const orders = ordersOf(plan, deliveries, dense, {
    ...{ run, frozen, fingerprint: parts.fingerprint() },
    packOf: (place) => times.took('pack', () => tables.encodePack(at(layouts, place))),
  });
  const costs = cut.map((delivery) =>
    plan.leaves.slice(delivery.first, delivery.end).reduce((sum, { cost }) => sum + cost, 0),
  );

  const read = deliveryReader(run.spec, plan, deliveries);
  const dispatch = (): AsyncIterable<Admitted<ReadDelivery>> =>
    dispatcher.run(orders, read, signal);
  let unread: ReturnType<typeof dispatch> | null = dispatch();
  return {
    ...{ plan, orders: orders.slice(0, cut.length), parametersOf: state.outerStep },
    deliveries() {
      const results = unread ?? dispatch();
      unread = null;
      return pace.noting(times.waitedFor(results), costs, () => planner.readAhead());
    },
    async ended() {
      const first = unread?.[Symbol.asyncIterator]().next();
      // The signal has aborted, so there is no result, and the jobs are taken back.
      await first?.catch(() => undefined);
    },
  };
}

function sharesOf(pace: WorkerPace, dispatcher: TrainOptions['dispatcher']): WorkerShares {
  const connectedCount = dispatcher.executorCount?.() ?? 0;
  return {
    workerCount: connectedCount === 0 ? pace.workerCount : connectedCount,
    msPerCost: pace.msPerCost,
  };
}

type PacedResult = Pick<JobResult, 'worker' | 'jobIndex' | 'computeMs'>;

/** The workers of a run, as its results tell: how many there are, and how long a unit of cost takes them. */
class WorkerPace {
  /** The number in the latest outer step that returned results, as far as it has. */
  workerCount = 0;
  /** Null before the first results. */
  msPerCost: number | null = null;

  /**
   * Passes the results of an outer step on.
   *
   * @param costs by job index
   * @param readAhead reads the plan of the next outer step. It is called as soon as every worker has its last job
   *   of this one: earlier, reading takes processor time from sending; later, all workers wait for it. Further calls
   *   have no effect.
   */
  async *noting<Of extends { readonly result: PacedResult }>(
    results: AsyncIterable<Of>,
    costs: readonly number[],
    readAhead: () => void = () => undefined,
  ): AsyncGenerator<Of> {
    const workers = new Set<string>();
    const openCountMax = Math.max(1, this.workerCount);
    let [computeMs, cost, openCount] = [0, 0, costs.length];
    if (openCount <= openCountMax) readAhead();
    for await (const each of results) {
      workers.add(each.result.worker);
      this.workerCount = workers.size;
      const ownCost = costs[each.result.jobIndex];
      if (ownCost !== undefined) {
        computeMs += each.result.computeMs;
        cost += ownCost;
        openCount -= 1;
      }
      if (openCount <= openCountMax) readAhead();
      yield each;
    }
    if (cost > 0) this.msPerCost = computeMs / cost;
  }
}
