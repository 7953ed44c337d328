/**
 * Adapts a micro-batch of tasks in every cell of a grid of inner rates and steps. How follows from the
 * method and the division of rows: without steps, by phases, or by rate, so that cells of one rate
 * share one inner loop.
 */

import type { Adaptation } from '../../../shared/queue/protocol.js';
import { inputOf, supportOf, type AdaptingBatch, type StepSupport } from './adapting-batch.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import type { SupportShifts } from '../scoring/row-shifts.js';
import type * as tfjs from '@tensorflow/tfjs';
import type { AdaptationFunctions } from './captured-adaptation.js';
import { at, float32At } from '../../../shared/base/arrays.js';
import { phaseMinibatches, type RowDivision } from '../../../shared/tasks/rows/row-division.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { rowExtent } from '../../../shared/tasks/rows/micro-batches.js';
import type { RowRole } from '../batches/row-batch.js';
import { named } from '../meta-gradients/passes.js';

export interface AdaptedBatch {
  readonly state: LoopState;
  /** Null where no shift follows. */
  readonly shift: SupportShifts | null;
}

/**
 * Takes the adapted tasks of some cells. The state is freed after the call.
 *
 * @param cells places in the grid.
 */
type OnAdapted = (cells: readonly number[], adapted: AdaptedBatch) => void;

/** A cell of a grid with its place there. */
type PlacedCell = Adaptation & { readonly place: number };

/**
 * The shifts that follow from a state; null where the method has none, and 0 where no task has
 * support rows.
 *
 * @param priorScale a factor of the prior variances.
 */
function shiftsAfter(
  { functions, job, loop, microBatch, support }: AdaptingBatch,
  state: LoopState,
  priorScale?: number,
): SupportShifts | null {
  const { shifts } = functions;
  if (shifts === null || loop.shift === null) return null;
  if (support === null)
    return {
      levels: new Float32Array(microBatch.taskCount),
      effects: loop.shift.features.map(() => new Float32Array()),
    };
  const { tf } = job.engine;
  const { batch, trunk } = support;
  const scale = priorScale === undefined ? {} : { priorScale: tf.scalar(priorScale) };
  const found = shifts.run({ dense: job.dense, batch, trunk, state, ...scale });
  const read = {
    levels: found.levels.dataSync<'float32'>(),
    effects: found.effects.map((effects) => effects.dataSync<'float32'>()),
  };
  tf.dispose([found.levels, ...found.effects]);
  return read;
}

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
      const { state } = tasks;
      onAdapted(
        ending.map(({ place }) => place),
        { state, shift: shiftsAfter(batch, state) },
      );
    }
    tasks.dispose();
  }
}

interface PhasedBatch extends AdaptingBatch {
  readonly step: CapturedStep;
  readonly division: Extract<RowDivision, { readonly by: 'phases' }>;
}

/** Each phase continues from the blocks of the one before. */
function adaptByPhases(
  batch: PhasedBatch,
  cells: readonly PlacedCell[],
  onAdapted: OnAdapted,
): void {
  if (cells.length === 0) return;
  const { step, initial, microBatch, job } = batch;
  const supports = phaseSupports(batch);
  for (const { place, innerRate, innerSteps } of cells) {
    const rates = job.engine.tf.fill<tfjs.Rank.R1>([microBatch.taskCount], innerRate);
    const tasks = new SteppingTasks(step, initial);
    for (const support of supports)
      for (let stepIndex = 0; stepIndex < innerSteps; stepIndex += 1) tasks.step(support, rates);
    const { state } = tasks;
    onAdapted([place], { state, shift: shiftsAfter(batch, state) });
    tasks.dispose();
  }
}

/** The minibatch of each phase; a phase in which no task has a row is left out. */
function phaseSupports(batch: PhasedBatch): StepSupport[] {
  const { division, job, microBatch, support } = batch;
  const supportExtent = rowExtent(division.rowsPerPhase);
  const minibatch = { ...microBatch, supportExtent, queryExtent: 0 };
  const roles = (['support', 'first'] as const).filter(
    (role) => role === 'support' || support?.input.batches[role] !== undefined,
  );
  const byTask = job.tasks.map((task) => phaseMinibatches(task, division));
  return Array.from({ length: division.phase }, (_, phase) => {
    const tasks = byTask.map((minibatches) => at(minibatches, phase));
    if (microBatch.taskPlaces.every((place) => at(tasks, place).rowCount === 0)) return [];
    const tasksOf = (role: RowRole): readonly TaskRows[] =>
      role === 'support' ? tasks : job.tasks;
    return supportOf(batch, inputOf(batch, minibatch, roles, tasksOf)) ?? [];
  }).flat();
}

function adaptWithoutSteps(
  batch: AdaptingBatch,
  cells: readonly PlacedCell[],
  onAdapted: OnAdapted,
): void {
  const { initial, loop } = batch;
  for (const rate of new Set(cells.map(({ innerRate }) => innerRate)))
    onAdapted(
      cells.filter(({ innerRate }) => innerRate === rate).map(({ place }) => place),
      { state: initial, shift: shiftsAfter(batch, initial, rate / loop.steps.rate) },
    );
}

/** Variables in the order of the spec, `[taskCount, variableCount]`. Sums are in float64. */
export function blockDistances(
  { job, microBatch, initial }: Pick<AdaptingBatch, 'job' | 'microBatch' | 'initial'>,
  state: LoopState,
): Float64Array {
  const { taskCount } = microBatch;
  const variables = job.spec.variables.filter(({ block }) => block === 'personal');
  const distances = new Float64Array(taskCount * variables.length);
  if (state === initial) return distances;
  for (const [column, { name }] of variables.entries()) {
    const before = named(initial, name).dataSync<'float32'>();
    const after = named(state, name).dataSync<'float32'>();
    const size = after.length / taskCount;
    for (let task = 0; task < taskCount; task += 1) {
      let sum = 0;
      for (let place = task * size; place < (task + 1) * size; place += 1)
        sum += (float32At(after, place) - float32At(before, place)) ** 2;
      distances[task * variables.length + column] = Math.sqrt(sum);
    }
  }
  return distances;
}

/** Calls `onAdapted` once for each distinct state, with the places of its cells in `cells`. */
export function adaptCells(
  batch: AdaptingBatch,
  cells: readonly Adaptation[],
  onAdapted: OnAdapted,
): void {
  const { functions, support, division, initial } = batch;
  const placed = [...cells.entries()].map(([place, cell]) => ({ place, ...cell }));
  const unadapted = placed.filter(({ innerSteps }) => innerSteps === 0);
  const adapted = placed.filter(({ innerSteps }) => innerSteps > 0);
  if (unadapted.length > 0)
    onAdapted(
      unadapted.map(({ place }) => place),
      { state: initial, shift: null },
    );
  const { step } = functions;
  if (step === null || support === null) adaptWithoutSteps(batch, adapted, onAdapted);
  else if (division?.by === 'phases')
    adaptByPhases({ ...batch, step, division }, adapted, onAdapted);
  else adaptByRate({ ...batch, step, support }, adapted, onAdapted);
}
