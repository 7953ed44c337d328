/**
 * Adapts a micro-batch of tasks in every cell of a grid of inner rates and steps. How follows from the
 * method: without steps, or by rate, so that cells of one rate share one inner loop.
 */

import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { AdaptingBatch, StepSupport } from './adapting-batch.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import type { SupportShifts } from '../scoring/row-shifts.js';
import type * as tfjs from '@tensorflow/tfjs';
import type { AdaptationFunctions } from './captured-adaptation.js';

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

/** Calls `onAdapted` once for each distinct state, with the places of its cells in `cells`. */
export function adaptCells(
  batch: AdaptingBatch,
  cells: readonly Adaptation[],
  onAdapted: OnAdapted,
): void {
  const { functions, support, initial } = batch;
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
  else adaptByRate({ ...batch, step, support }, adapted, onAdapted);
}
