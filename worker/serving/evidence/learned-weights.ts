/**
 * The weights that contextual policies learn from settled impressions: a ridge regression for `lin-ucb`, and independent
 * normal weights by a diagonal Laplace approximation for `logistic-thompson`. Both begin from what the model predicts, so
 * that weights say by how much it errs. Sums are named numbers, which lie alike in memory and in Redis
 * (`evidence-script.ts` adds the same):
 *
 *   linear     a:i:j (i <= j)  sum of x_i x_j       b:i  sum of x_i (reward - prediction)
 *   logistic   m:i  mean of a weight                q:i  its precision
 */

import { float64At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import { keyHashOf } from '../../../shared/bundle/key-index.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import { LESSON_PLACES_MAX, type Lesson } from '../../../shared/exploration/lesson.js';

/** Probabilities are at least so far from 0 and 1 when log-odds are made of them. */
export const PROBABILITY_MIN = 1e-6;

export interface Learning {
  readonly kind: 'linear' | 'logistic';
  readonly dimension: number;
  /** Of every weight before anything is learned. */
  readonly precision: number;
}

export type LearnedNumbers = ReadonlyMap<string, number>;

/** Null for policies that learn no weights. */
export function learningOf({
  policy,
  weights,
}: Pick<ExplorationConfig, 'policy' | 'weights'>): Learning | null {
  const { dimension, precision } = weights;
  if (policy === 'lin-ucb') return { kind: 'linear', dimension, precision };
  if (policy === 'logistic-thompson') return { kind: 'logistic', dimension, precision };
  return null;
}

/** Names the numbers that belong together: those of other settings are worth nothing. */
export function learningName({ kind, dimension, precision }: Learning): string {
  return `${kind}-${dimension}-${precision}`;
}

/** @param values of columns, with their names. */
export function lessonOf(
  { dimension }: Pick<Learning, 'dimension'>,
  { adgroup, values }: { readonly adgroup: string; readonly values: readonly string[] },
  probability: number,
): Lesson {
  const places = new Set([0]);
  for (const text of [`=${adgroup}`, ...values].slice(0, LESSON_PLACES_MAX - 1)) {
    const { low, high } = keyHashOf(Buffer.from(text), 0);
    places.add(1 + (((low ^ high) >>> 0) % (dimension - 1)));
  }
  return { dimension, places: [...places].sort((a, b) => a - b), probability };
}

/** Log-odds, which a probability of 0 or 1 has none of. */
export function logOddsOf(probability: number): number {
  const bounded = Math.min(1 - PROBABILITY_MIN, Math.max(PROBABILITY_MIN, probability));
  return Math.log(bounded / (1 - bounded));
}

/** Adds a lesson to the numbers; one for weights of another dimension teaches nothing. */
export function learn(
  learning: Learning,
  numbers: Map<string, number>,
  lesson: Lesson,
  reward: number,
): void {
  if (lesson.dimension !== learning.dimension) return;
  if (learning.kind === 'linear') learnLinear(numbers, lesson, reward);
  else learnLogistic(learning.precision, numbers, lesson, reward);
}

function learnLinear(
  numbers: Map<string, number>,
  { places, probability }: Lesson,
  reward: number,
): void {
  const value = 1 / Math.sqrt(places.length);
  const add = (name: string, term: number): void => {
    numbers.set(name, (numbers.get(name) ?? 0) + term);
  };
  for (const [index, i] of places.entries()) {
    for (const j of places.slice(index)) add(`a:${i}:${j}`, value * value);
    add(`b:${i}`, value * (reward - probability));
  }
}

function learnLogistic(
  precision: number,
  numbers: Map<string, number>,
  { places, probability }: Lesson,
  reward: number,
): void {
  const value = 1 / Math.sqrt(places.length);
  const numberOf = (name: string, otherwise: number): number => numbers.get(name) ?? otherwise;
  let spread = 0;
  let score = logOddsOf(probability);
  for (const i of places) {
    spread += (value * value) / numberOf(`q:${i}`, precision);
    score += value * numberOf(`m:${i}`, 0);
  }
  const step = laplaceStep(score, spread, reward);
  const chance = sigmoid(score + step * spread);
  for (const i of places) {
    const before = numberOf(`q:${i}`, precision);
    numbers.set(`m:${i}`, numberOf(`m:${i}`, 0) + (value / before) * step);
    numbers.set(`q:${i}`, before + value * value * chance * (1 - chance));
  }
}

/** Newton's steps for one observation: the root lies in an interval of width 1, and the last steps change nothing. */
export const LAPLACE_STEPS = 64;

/**
 * The posterior mode moves by Q^-1 x times this step (Chapelle and Li, NIPS 2011, algorithm 3, for one observation): the
 * root of step = reward - sigmoid(score + step * spread), which lies between reward - 1 and reward.
 */
function laplaceStep(score: number, spread: number, reward: number): number {
  let [low, high] = [reward - 1, reward];
  let step = 0;
  for (let count = 0; count < LAPLACE_STEPS; count += 1) {
    const chance = sigmoid(score + step * spread);
    const excess = step - reward + chance;
    if (excess > 0) high = step;
    else low = step;
    const newton = step - excess / (1 + spread * chance * (1 - chance));
    step = newton > low && newton < high ? newton : (low + high) / 2;
  }
  return step;
}

/** Rewards that linear weights predict, and their standard deviations. */
export class LinearWeights {
  /** The inverse of the ridge matrix, `[dimension, dimension]`. */
  readonly #inverse: Float64Array;
  readonly #weights: Float64Array;
  readonly #dimension: number;

  constructor({ dimension, precision }: Learning, numbers: LearnedNumbers) {
    this.#dimension = dimension;
    const matrix = new Float64Array(dimension * dimension);
    for (let i = 0; i < dimension; i += 1)
      for (let j = i; j < dimension; j += 1) {
        const sum = (numbers.get(`a:${i}:${j}`) ?? 0) + (i === j ? precision : 0);
        matrix[i * dimension + j] = sum;
        matrix[j * dimension + i] = sum;
      }
    this.#inverse = inverseOf(matrix, dimension);
    this.#weights = new Float64Array(dimension);
    for (let i = 0; i < dimension; i += 1)
      for (let j = 0; j < dimension; j += 1)
        this.#weights[i] =
          float64At(this.#weights, i) +
          float64At(this.#inverse, i * dimension + j) * (numbers.get(`b:${j}`) ?? 0);
  }

  predicted({ places, probability }: Lesson): {
    readonly mean: number;
    readonly deviation: number;
  } {
    const value = 1 / Math.sqrt(places.length);
    let mean = probability;
    let variance = 0;
    for (const i of places) {
      mean += value * float64At(this.#weights, i);
      for (const j of places)
        variance += value * value * float64At(this.#inverse, i * this.#dimension + j);
    }
    return { mean, deviation: Math.sqrt(Math.max(0, variance)) };
  }
}

/** Of a symmetric positive definite matrix, by elimination without pivots, of which such a matrix needs none. */
function inverseOf(given: Float64Array, size: number): Float64Array {
  const matrix = given.slice();
  const inverse = new Float64Array(size * size);
  for (let i = 0; i < size; i += 1) inverse[i * size + i] = 1;
  const addRow = (from: number, to: number, factor: number): void => {
    for (const values of [matrix, inverse])
      for (let j = 0; j < size; j += 1)
        values[to * size + j] =
          (values[to * size + j] ?? NaN) + factor * (values[from * size + j] ?? NaN);
  };
  for (let i = 0; i < size; i += 1) {
    addRow(i, i, 1 / float64At(matrix, i * size + i) - 1);
    for (let row = 0; row < size; row += 1)
      if (row !== i) addRow(i, row, -float64At(matrix, row * size + i));
  }
  return inverse;
}

/** Means and precisions of logistic weights, `[dimension]` each. */
export function logisticWeights(
  { dimension, precision }: Learning,
  numbers: LearnedNumbers,
): { readonly means: number[]; readonly precisions: number[] } {
  const each = (name: string, otherwise: number): number[] =>
    Array.from({ length: dimension }, (_, i) => numbers.get(`${name}:${i}`) ?? otherwise);
  return { means: each('m', 0), precisions: each('q', precision) };
}
