/**
 * Adapts a micro-batch of tasks in every cell of a grid of inner rates and steps. How follows from the
 * method: without steps, or by rate, so that cells of one rate share one inner loop.
 */

import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { AdaptingBatch, StepSupport } from './adapting-batch.js';
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
      onAdapted(
        ending.map(({ place }) => place),
        tasks.state,
      );
    }
    tasks.dispose();
  }
}

/** Calls `onAdapted` once for each distinct state, with the places of its cells in `cells`. */
export function adaptCells(
  batch: AdaptingBatch,
  cells: readonly Adaptation[],
  onAdapted: OnAdapted,
): void {
  const { step } = batch.functions;
  const { support, initial } = batch;
  const placed = [...cells.entries()].map(([place, cell]) => ({ place, ...cell }));
  const isUnadapted = ({ innerSteps }: PlacedCell): boolean =>
    innerSteps === 0 || step === null || support === null;
  const unadapted = placed.filter(isUnadapted);
  if (unadapted.length > 0)
    onAdapted(
      unadapted.map(({ place }) => place),
      initial,
    );
  if (step === null || support === null) return;
  const adapted = placed.filter((cell) => !isUnadapted(cell));
  adaptByRate({ ...batch, step, support }, adapted, onAdapted);
}
