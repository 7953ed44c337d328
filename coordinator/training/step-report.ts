/** Emits the events that report the outer steps of a run. */

import { methodPlanOf } from '../../shared/methods/methods.js';
import { GRADIENT_NORM, scalarOf } from './meta-optimizer.js';
import { sizeDivisionOf, readsTrunkRows, type StepPlan } from '../plan/step-plan.js';
import type { PreparedRun, RunCaller } from '../plan/prepared-run.js';
import { outerStepsOf, type TrainingState } from '../checkpoints/checkpoint-manifest.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import type { StepSum } from './step-sum.js';
import type { Clock } from '../../shared/base/clock.js';
import { STEP_PHASES, type StepPhase } from '../../shared/names/event-terms.js';
import { warningEvent, type RunEventSink } from '../../shared/events/run-events.js';
import type { JobResult } from '../../shared/queue/protocol.js';
import { counted } from '../../shared/names/counted.js';

const MS_PER_SECOND = 1000;

/** Emits the start of the run. The returned function is called after each outer step. */
export function stepReport(
  { config, store }: PreparedRun,
  { clock, sink }: RunCaller,
  start: Pick<TrainingState, 'outerStep' | 'extendedOuterSteps'>,
): (state: TrainingState, plan: StepPlan, sum: StepSum) => void {
  const { run: runId, training } = config;
  const { outerStep } = start;
  sink({ kind: 'run-started', runId, outerStep, outerSteps: outerStepsOf(start, training) });
  const { trunk } = store.manifest;
  if (trunk !== undefined && !readsTrunkRows(methodPlanOf(config.method)))
    sink(
      warningEvent(
        'trunk-rows-unread',
        `${counted(trunk.rowCount, 'row')} of the store train the trunk only, and ${config.method.kind} does not read them: ` +
          'it makes the start of an adgroup of its attributes, and these rows are of many adgroups',
      ),
    );
  const tasksAdapt = adapts(methodPlanOf(config.method));
  const { names: sizes } = sizeDivisionOf(config.evaluation.sizeBucketEdges);
  let previousMs = clock.monotonicMs();
  return (state, plan, sum) => {
    const nowMs = clock.monotonicMs();
    const elapsedMs = Math.max(nowMs - previousMs, 1);
    previousMs = nowMs;
    const { bySize, queryLossBefore, ...means } = sum.losses(tasksAdapt);
    sink({
      kind: 'outer-step',
      outerStep: state.outerStep,
      outerSteps: outerStepsOf(state, training),
      ...means,
      ...(queryLossBefore === null ? {} : { queryLossBefore }),
      gradientNorm: scalarOf(state.optimizer, GRADIENT_NORM),
      tasksPerSecond: (plan.taskCount * MS_PER_SECOND) / elapsedMs,
      bySize: { sizes: [...sizes], ...bySize },
    });
  };
}

type PhasesMs = Record<StepPhase, number>;
type ResultTimes = Pick<JobResult, 'worker' | 'taskCount' | 'computeMs' | 'fetchMs' | 'uploadMs'>;

/** Finer than any of the phases. */
const MICROSECONDS_PER_MS = 1000;

/** The phases of the outer step under way. `event-kinds.ts` says what each one covers. */
export class StepTimes {
  readonly #clock: Clock;
  readonly #sink: RunEventSink;
  readonly #workers = new Set<string>();
  #phasesMs = noTime();
  #jobCount = 0;
  #taskCount = 0;
  #waitedMs = 0;
  #startedMs = 0;

  constructor({ clock, sink }: { readonly clock: Clock; readonly sink: RunEventSink }) {
    this.#clock = clock;
    this.#sink = sink;
  }

  begin(): void {
    this.#startedMs = this.#clock.epochMs();
    this.#phasesMs = noTime();
    this.#waitedMs = 0;
    this.#jobCount = 0;
    this.#taskCount = 0;
    this.#workers.clear();
  }

  took<Value>(phase: StepPhase, work: () => Value): Value {
    const startMs = this.#clock.monotonicMs();
    const value = work();
    this.#phasesMs[phase] += this.#clock.monotonicMs() - startMs;
    return value;
  }

  async during<Value>(phase: StepPhase, work: () => Promise<Value>): Promise<Value> {
    const startMs = this.#clock.monotonicMs();
    const value = await work();
    this.#phasesMs[phase] += this.#clock.monotonicMs() - startMs;
    return value;
  }

  /** Passes results on, and notes how long each was waited for and what its worker says that it took. */
  async *waitedFor<Arrival extends { readonly result: ResultTimes }>(
    arrivals: AsyncIterable<Arrival>,
  ): AsyncGenerator<Arrival> {
    let startMs = this.#clock.monotonicMs();
    for await (const arrival of arrivals) {
      this.#waitedMs += this.#clock.monotonicMs() - startMs;
      this.#note(arrival.result);
      yield arrival;
      startMs = this.#clock.monotonicMs();
    }
    this.#waitedMs += this.#clock.monotonicMs() - startMs;
  }

  /** @param outerStep the number of outer steps that are complete. */
  report(outerStep: number): void {
    this.#sink({
      ...{ kind: 'outer-step-timed', outerStep, startedMs: this.#startedMs },
      phasesMs: this.#told(),
      ...{ jobCount: this.#jobCount, taskCount: this.#taskCount },
      workerCount: this.#workers.size,
    });
  }

  #note({ worker, taskCount, computeMs, fetchMs = 0, uploadMs = 0 }: ResultTimes): void {
    this.#jobCount += 1;
    this.#taskCount += taskCount;
    this.#workers.add(worker);
    this.#phasesMs.fetch += fetchMs;
    this.#phasesMs.compute += computeMs;
    this.#phasesMs.upload += uploadMs;
  }

  #told(): PhasesMs {
    const told = { ...this.#phasesMs };
    const workerCount = Math.max(1, this.#workers.size);
    for (const phase of ['fetch', 'compute', 'upload'] as const) told[phase] /= workerCount;
    told.queue = Math.max(0, this.#waitedMs - told.fetch - told.compute - told.upload);
    for (const phase of STEP_PHASES)
      told[phase] = Math.round(told[phase] * MICROSECONDS_PER_MS) / MICROSECONDS_PER_MS;
    return told;
  }
}

function noTime(): PhasesMs {
  return {
    ...{ sample: 0, pack: 0, queue: 0, fetch: 0, compute: 0 },
    ...{ upload: 0, aggregate: 0, optimise: 0, checkpoint: 0 },
  };
}
