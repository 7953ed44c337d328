/**
 * The grids of the adapted arms. All have the same number of cells, so that no arm is tuned harder.
 */

import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf, shiftsAlone } from '../../shared/methods/methods.js';
import type { Cell } from '../scoring/evaluation-report.js';

export interface Grid {
  readonly cells: readonly Cell[];
  /** True if the cell lies at an end of an axis that has more than one value. */
  isAtEdge(cellIndex: number): boolean;
}

const DEVIATION_MIN = 0.1;
const DEVIATION_MAX = 2;
const MEAN_STEP = 0.2;

export function cellsPerArm(config: EvaluationConfig): number {
  return config.innerRates.length * config.innerSteps.length;
}

/** Every inner rate with every number of inner steps. */
export function innerStepGrid(config: EvaluationConfig): Grid {
  const rates = ascending(config.innerRates);
  const steps = ascending(config.innerSteps);
  return productGrid(rates, steps, (innerRate, innerSteps) => ({
    kind: 'inner-steps',
    innerRate,
    innerSteps,
  }));
}

/** The same for what the method of a run adapts. Where that is a shift alone, rates are factors of its prior variances. */
export function ownGrid(config: Pick<RunConfig, 'evaluation' | 'method' | 'model'>): Grid {
  const grid = innerStepGrid(config.evaluation);
  const plan = methodPlanOf(config.method);
  if (!shiftsAlone(config) || !adapts(plan)) return grid;
  const { rate } = plan.innerLoop.steps;
  const cells = grid.cells.map((cell) =>
    cell.kind === 'inner-steps' ? { ...cell, priorFactor: cell.innerRate / rate } : cell,
  );
  return { ...grid, cells };
}

/**
 * As many priors as `innerStepGrid` has cells. The longer axis holds the deviation (0.1 to 2, evenly
 * spaced in the logarithm), the shorter one the mean (0, then outwards on both sides).
 */
export function shiftPriorGrid(config: EvaluationConfig): Grid {
  const { innerRates, innerSteps } = config;
  const deviationCount = Math.max(innerRates.length, innerSteps.length);
  const meanCount = Math.min(innerRates.length, innerSteps.length);
  const means = Array.from(
    { length: meanCount },
    (_, index) => Math.ceil(index / 2) * MEAN_STEP * (index % 2 === 0 ? 1 : -1),
  );
  return productGrid(deviationsOf(deviationCount), ascending(means), (deviation, mean) => ({
    kind: 'shift-prior',
    mean: mean === 0 ? 0 : mean,
    deviation,
  }));
}

function deviationsOf(count: number): number[] {
  if (count === 1) return [0.5];
  const ratio = DEVIATION_MAX / DEVIATION_MIN;
  return Array.from({ length: count }, (_, index) =>
    Number((DEVIATION_MIN * ratio ** (index / (count - 1))).toPrecision(3)),
  );
}

function productGrid(
  first: readonly number[],
  second: readonly number[],
  cellOf: (first: number, second: number) => Cell,
): Grid {
  const atEnd = (index: number, length: number): boolean =>
    length > 1 && (index === 0 || index === length - 1);
  return {
    cells: first.flatMap((a) => second.map((b) => cellOf(a, b))),
    isAtEdge: (cellIndex) =>
      atEnd(Math.floor(cellIndex / second.length), first.length) ||
      atEnd(cellIndex % second.length, second.length),
  };
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}
