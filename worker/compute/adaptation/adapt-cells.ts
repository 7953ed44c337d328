/**
 * Adapts a micro-batch of tasks in every cell of a grid of inner rates and steps. How follows from the
 * method: without steps, or by rate, so that cells of one rate share one inner loop.
 */

import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { AdaptingBatch, StepSupport } from './adapting-batch.js';
import { COVARIANCE } from '../../../shared/methods/inner-loop/personal-blocks.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import type * as tfjs from '@tensorflow/tfjs';
import type { AdaptationFunctions } from './captured-adaptation.js';

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
  if (functions.covariance === null) return act(state);
  const rates = job.engine.tf.fill<tfjs.Rank.R1>([microBatch.taskCount], rate);
  const rows = support === null ? {} : { trunk: support.trunk };
  const covariance = functions.covariance.run({ ...input, ...rows, state, rates });
  act({ ...state, [COVARIANCE]: covariance });
  covariance.dispose();
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
  } else if (batch.functions.covariance === null) atStart(placed, loop.steps.rate);
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
