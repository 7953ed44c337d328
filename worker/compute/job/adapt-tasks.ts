/**
 * Adapts a micro-batch of tasks in every cell of a grid of inner rates and steps, and scores rows under the result. How
 * tasks adapt follows from the method: without steps, or by rate, so that cells of one rate share one inner loop.
 *
 * The start, one inner step, the variances of the blocks, and the logits of rows are captured functions. Their results stay on
 * the device, and the rate is an input, so that a whole grid runs on one graph of each.
 *
 * Every operation of a scored row reads that row, the blocks of its task and shared variables, and
 * sums over widths of the model alone, never over rows or tasks. So a row's logit does not depend on
 * the rows next to it (`row-scorer.ts` has the layout rule). Predict jobs and scorers of adapted tasks run the same two
 * graphs, since what else is in a graph decides in which order TensorFlow sums.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import { VARIANCES } from '../../../shared/methods/inner-loop/personal-blocks.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { capture, type Captured } from '../engine/capture/capture.js';
import type { GraphShelf, GraphShelves } from '../engine/capture/graph-shelf.js';
import type { Engine } from '../engine/load-engine.js';
import type { TensorStructure } from '../engine/capture/record-graph.js';
import {
  adaptingTasksOf,
  startState,
  steppedState,
  stepGradient,
  type LoopState,
} from '../meta-gradients/inner-loop.js';
import {
  featuresOf,
  type RowFeatures,
  scoredLogits,
  scoredState,
  withCrowds,
} from '../meta-gradients/moderated-logits.js';
import {
  jobTensorsOf,
  named,
  type BatchInput,
  type Pass,
  type RowsWithTrunk,
  type TensorsByName,
  withTrunk,
} from '../meta-gradients/passes.js';
import { type BatchTensors, batchesOf, type DeviceTasks } from '../models/device-tasks.js';
import { modelPlanOf, type TrunkPass } from '../models/fields.js';
import { microBatchesOf, type MicroBatch } from '../../../shared/tasks/micro-batches.js';
import type { RowRole } from '../models/row-batch.js';
import { rolesBesideOf } from '../meta-gradients/meta-gradient.js';
import type { Adaptation } from '../../../shared/queue/protocol.js';

type StartInput = BatchInput & {
  /** `[taskCount]`; only its shape is read, since tasks may have no rows. */
  readonly tasks: tfjs.Tensor1D;
};

type StepInput = BatchInput & {
  /** The trunk pass of the support rows. */
  readonly trunk: TrunkPass;
  readonly state: LoopState;
  /** Inner rates, `[taskCount]`. */
  readonly rates: tfjs.Tensor1D;
};

type ScoredInput = BatchInput & {
  /** The trunk pass of the support rows; absent where tasks have not stepped on any. */
  readonly trunk?: TrunkPass;
  readonly state: LoopState;
  readonly rates: tfjs.Tensor1D;
};

export interface AdaptationFunctions {
  readonly start: Captured<StartInput, LoopState>;
  /** An inner step of every task; null when no variable is personal, so that none moves. */
  readonly step: Captured<StepInput, LoopState> | null;
  /** The variances of the blocks alone; null where the method has none. */
  readonly variances: Captured<ScoredInput, tfjs.Tensor> | null;
  dispose(): void;
}

/** @param shelfOf the graphs of one of these functions; null where none are kept. */
export function captureAdaptation(
  engine: Engine,
  spec: ModelSpec,
  loop: InnerLoop,
  shelfOf: (functionName: string) => GraphShelf | null = () => null,
): AdaptationFunctions {
  const plan = modelPlanOf(spec, true);
  const passOn = (input: BatchInput, data: BatchTensors): Pass => ({
    job: jobTensorsOf(engine, spec, input),
    plan,
    data,
  });
  const start = ({ tasks, ...input }: StartInput): LoopState =>
    startState(loop, adaptingTasksOf(jobTensorsOf(engine, spec, input, tasks.shape[0])));
  const step = ({ trunk, state, rates, ...input }: StepInput): LoopState => {
    const { support } = input.batches;
    if (support === undefined) throw new Error('an inner step has support rows');
    const pass = passOn(input, support);
    const rows = { pass, trunk };
    const { scaledGradients } = stepGradient(rows, state, rates);
    return steppedState(loop, adaptingTasksOf(pass.job), state, { scaledGradients, rates, rows });
  };
  const variances = ({ trunk, state, rates, ...input }: ScoredInput): tfjs.Tensor => {
    const { support } = input.batches;
    const rows =
      trunk === undefined || support === undefined ? null : { pass: passOn(input, support), trunk };
    const job = jobTensorsOf(engine, spec, input, rates.shape[0]);
    return named(scoredState(loop, adaptingTasksOf(job), state, { rows, rates }), VARIANCES);
  };
  const captured = <In extends TensorStructure, Out extends TensorStructure>(
    name: string,
    compute: (input: In) => Out,
  ): Captured<In, Out> => capture(engine, compute, { name, shelf: shelfOf(name) });
  const functions = {
    start: captured('the start of tasks', start),
    step: plan.personal.size === 0 ? null : captured('an inner step', step),
    variances: loop.variances === undefined ? null : captured('the variances', variances),
  };
  return {
    ...functions,
    dispose: () => {
      for (const each of Object.values(functions)) each?.dispose();
    },
  };
}

/** Rows of one role. */
type RowsInput = Omit<BatchInput, 'batches'> & { readonly batch: BatchTensors };

export type LogitsInput = {
  readonly dense: TensorsByName;
  readonly batch: BatchTensors;
  readonly trunk: TrunkPass;
  /** The own variables of tasks, `[taskCount, ...shape]`. */
  readonly state: TensorsByName;
};

export interface ScoringFunctions {
  readonly trunk: Captured<RowsInput, TrunkPass>;
  /** `[taskCount, rowExtent]` */
  readonly logits: Captured<LogitsInput, tfjs.Tensor2D>;
  readonly features: Captured<LogitsInput, RowFeatures>;
  dispose(): void;
}

export function captureScoring(
  engine: Engine,
  spec: ModelSpec,
  shelves: GraphShelves | null = null,
): ScoringFunctions {
  const plan = modelPlanOf(spec, true);
  const trunk = ({ batch, ...input }: RowsInput): TrunkPass => {
    const job = jobTensorsOf(engine, spec, { ...input, batches: { query: batch } });
    return withCrowds(withTrunk({ job, plan, data: batch }));
  };
  const rowsOf = ({ dense, batch, trunk }: LogitsInput): RowsWithTrunk => {
    const job = jobTensorsOf(engine, spec, { dense, batches: { query: batch } });
    return { pass: { job, plan, data: batch }, trunk };
  };
  const logits = (input: LogitsInput): tfjs.Tensor2D => scoredLogits(rowsOf(input), input.state);
  const features = (input: LogitsInput): RowFeatures => featuresOf(rowsOf(input), input.state);
  const optionsOf = (name: string) => ({
    name,
    shelf: shelves?.(['scoring', name, spec]) ?? null,
  });
  const captured = {
    trunk: capture(engine, trunk, optionsOf('the trunk pass of rows')),
    logits: capture(engine, logits, optionsOf('the logits of rows')),
    features: capture(engine, features, optionsOf('the features of rows')),
  };
  return {
    ...captured,
    dispose: () => {
      for (const each of Object.values(captured)) each.dispose();
    },
  };
}

/** Functions and settings that all micro-batches of a job share. */
export interface Adapting {
  readonly job: DeviceTasks;
  readonly loop: InnerLoop;
  readonly functions: AdaptationFunctions;
  readonly scoring: ScoringFunctions;
}

/** Support rows as an inner step reads them. */
interface StepSupport {
  readonly input: BatchInput;
  readonly batch: BatchTensors;
  readonly trunk: TrunkPass;
}

export interface AdaptingBatch extends Adapting {
  readonly microBatch: MicroBatch;
  /** All rows of the micro-batch. */
  readonly input: BatchInput;
  readonly initial: LoopState;
  /** Null when no task has support rows. */
  readonly support: StepSupport | null;
}

/**
 * Layout rule of adaptation: the bits of a task's blocks depend on the micro-batch it adapts in, since
 * the extents decide how a step is computed, and TensorFlow orders sums by the names of a graph's
 * nodes, which follow from its inputs. So every kind of job cuts its tasks by this function and feeds
 * the same roles, query rows included, whether anything reads them or not.
 *
 * @param rows whether support rows are read at all, and whether there are query rows.
 */
export function adaptingMicroBatches(
  job: DeviceTasks,
  rows: { readonly isAdapting: boolean; readonly hasQuery: boolean },
  microBatchRowsMax: number,
): MicroBatch[] {
  const sizes = job.tasks.map(({ rowCount, supportRowCount }) => ({
    supportRowCount: rows.isAdapting ? supportRowCount : 0,
    queryRowCount: rows.hasQuery ? rowCount - supportRowCount : 0,
  }));
  return microBatchesOf(sizes, microBatchRowsMax);
}

/** The caller's `tf.tidy` owns all tensors. */
export function adaptingBatchOf(adapting: Adapting, microBatch: MicroBatch): AdaptingBatch {
  const { job, loop, functions } = adapting;
  const input = inputOf(adapting, microBatch, ['support', 'query', ...rolesBesideOf(loop)]);
  const tasks = job.engine.tf.zeros<tfjs.Rank.R1>([microBatch.taskCount]);
  return {
    ...adapting,
    ...{ microBatch, input },
    initial: functions.start.run({ ...input, tasks }),
    support: supportOf(adapting, input),
  };
}

function inputOf(
  { job, loop }: Adapting,
  microBatch: MicroBatch,
  roles: readonly RowRole[],
): BatchInput {
  const wanted = { roles, hasSupportTotals: loop.reads.supportTotals === true };
  return { dense: job.dense, ...job.pack, ...batchesOf(job, microBatch, wanted) };
}

function supportOf({ scoring }: Adapting, input: BatchInput): StepSupport | null {
  const { batches, ...shared } = input;
  const batch = batches.support;
  return batch === undefined
    ? null
    : { input, batch, trunk: scoring.trunk.run({ ...shared, batch }) };
}

/**
 * Takes the blocks of some cells. They are freed after the call.
 *
 * @param cells places in the grid.
 */
type OnAdapted = (cells: readonly number[], state: LoopState) => void;

/** A cell of a grid with its place there. */
type PlacedCell = Adaptation & { readonly place: number };

type CapturedStep = NonNullable<AdaptationFunctions['step']>;

/** Tasks between steps. A state is freed as soon as a step has replaced it, except for the first. */
class SteppingTasks {
  readonly #step: CapturedStep;
  readonly #initial: LoopState;
  #state: LoopState;

  constructor(step: CapturedStep, initial: LoopState) {
    this.#step = step;
    this.#initial = initial;
    this.#state = initial;
  }

  get state(): LoopState {
    return this.#state;
  }

  /** @param rates of the tasks, `[taskCount]`. */
  step({ input, trunk }: StepSupport, rates: tfjs.Tensor1D): void {
    const moved = this.#step.run({ ...input, trunk, state: this.#state, rates });
    this.dispose();
    this.#state = moved;
  }

  dispose(): void {
    if (this.#state === this.#initial) return;
    for (const tensor of Object.values(this.#state)) tensor.dispose();
  }
}

function adaptByRate(
  batch: AdaptingBatch & { readonly step: CapturedStep; readonly support: StepSupport },
  cells: readonly PlacedCell[],
  onAdapted: OnAdapted,
): void {
  const { step, support, initial, microBatch, job } = batch;
  for (const rate of new Set(cells.map(({ innerRate }) => innerRate))) {
    const ofRate = cells.filter(({ innerRate }) => innerRate === rate);
    const stepCount = Math.max(...ofRate.map(({ innerSteps }) => innerSteps));
    const rates = job.engine.tf.fill<tfjs.Rank.R1>([microBatch.taskCount], rate);
    const tasks = new SteppingTasks(step, initial);
    for (let done = 1; done <= stepCount; done += 1) {
      tasks.step(support, rates);
      const ending = ofRate.filter(({ innerSteps }) => innerSteps === done);
      if (ending.length === 0) continue;
      withScoredState(batch, { state: tasks.state, rate, support }, (state) => {
        onAdapted(
          ending.map(({ place }) => place),
          state,
        );
      });
    }
    tasks.dispose();
  }
}

/**
 * Calls `onAdapted` with the state that rows are scored with.
 *
 * @param support the rows that the state has stepped on; null if there are none
 */
function withScoredState(
  { functions, input, job, microBatch }: AdaptingBatch,
  { state, rate, support }: { state: LoopState; rate: number; support: StepSupport | null },
  act: (state: LoopState) => void,
): void {
  if (functions.variances === null) return act(state);
  const rates = job.engine.tf.fill<tfjs.Rank.R1>([microBatch.taskCount], rate);
  const rows = support === null ? {} : { trunk: support.trunk };
  const variances = functions.variances.run({ ...input, ...rows, state, rates });
  act({ ...state, [VARIANCES]: variances });
  variances.dispose();
}

/** Calls `onAdapted` once for each distinct state, with the places of its cells in `cells`. */
export function adaptCells(
  batch: AdaptingBatch,
  cells: readonly Adaptation[],
  onAdapted: OnAdapted,
): void {
  const { step } = batch.functions;
  const { support, initial, loop } = batch;
  const placed = [...cells.entries()].map(([place, cell]) => ({ place, ...cell }));
  const atStart = (chosen: readonly PlacedCell[], rate: number): void => {
    if (chosen.length > 0)
      withScoredState(batch, { state: initial, rate, support: null }, (state) => {
        onAdapted(
          chosen.map(({ place }) => place),
          state,
        );
      });
  };
  const unadapted = placed.filter(({ innerSteps }) => innerSteps === 0);
  const adapted = placed.filter(({ innerSteps }) => innerSteps > 0);
  if (step !== null && support !== null) {
    atStart(unadapted, loop.steps.rate);
    adaptByRate({ ...batch, step, support }, adapted, onAdapted);
  } else if (batch.functions.variances === null) atStart(placed, loop.steps.rate);
  else {
    atStart(unadapted, loop.steps.rate);
    // The rate is a factor of the prior variances.
    for (const rate of new Set(adapted.map(({ innerRate }) => innerRate)))
      atStart(
        adapted.filter(({ innerRate }) => innerRate === rate),
        rate,
      );
  }
}
