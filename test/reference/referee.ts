/**
 * The referee: losses and the inner loop written row by row in float64, directly from their
 * formulas, over the models of `model-referee.ts`. It shares only the model spec with the
 * production code.
 */

import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { Leaves, type Values } from './leaves.js';
import { logitNode } from './model-referee.js';
import { ScalarTape } from './scalar-tape.js';

export { Leaves, type Values };
/** Dense variables by name, table rows by `table/id`. */
export type Gradient = Map<string, Float64Array>;

export function denseValuesOf(meta: MetaParameters): Values {
  return new Map([...meta.dense].map(([name, { values }]) => [name, Float64Array.from(values)]));
}

export interface RowSpan {
  readonly start: number;
  readonly end: number;
}

export const supportOf = (task: TaskRows): RowSpan => ({ start: 0, end: task.supportRowCount });
export const queryOf = (task: TaskRows): RowSpan => ({
  start: task.supportRowCount,
  end: task.rowCount,
});
export const allOf = (task: TaskRows): RowSpan => ({ start: 0, end: task.rowCount });

/** The task loss over the span; 0 if it has no impressions. */
export function lossNode(spec: ModelSpec, leaves: Leaves, task: TaskRows, span: RowSpan): number {
  const { tape } = leaves;
  const terms = [tape.constant(0)];
  let impressionSum = 0;
  for (let row = span.start; row < span.end; row += 1) {
    const impressions = task.impressions[row]!;
    const z = logitNode(spec, leaves, task, row);
    if (task.loss === 'squared') {
      const error = tape.add(z, tape.constant(-task.clicks[row]! / impressions));
      terms.push(tape.scale(tape.multiply(error, error), impressions / 2));
    } else terms.push(tape.scale(tape.softplus(z), impressions), tape.scale(z, -task.clicks[row]!));
    impressionSum += impressions;
  }
  const scale = impressionSum === 0 ? 0 : 1 / impressionSum;
  return tape.scale(tape.add(...terms), scale);
}

/** The task loss over the span at `dense`, and its gradient. */
export function taskLoss(
  spec: ModelSpec,
  meta: MetaParameters,
  dense: Values,
  task: TaskRows,
  span: RowSpan,
): { loss: number; gradient: Gradient } {
  const tape = new ScalarTape();
  const leaves = new Leaves(tape, dense, meta);
  for (const { name } of spec.variables) leaves.variable(name);
  const loss = lossNode(spec, leaves, task, span);
  const slopes = tape.gradient(loss);
  const gradient = new Map(
    [...leaves.nodes].map(([key, nodes]) => [key, Float64Array.from(nodes, (n) => slopes[n]!)]),
  );
  return { loss: tape.valueOf(loss), gradient };
}

export function logitsAt(
  spec: ModelSpec,
  meta: MetaParameters,
  dense: Values,
  task: TaskRows,
  span: RowSpan,
): number[] {
  const leaves = new Leaves(new ScalarTape(), dense, meta);
  return Array.from({ length: span.end - span.start }, (_, row) =>
    leaves.tape.valueOf(logitNode(spec, leaves, task, span.start + row)),
  );
}

/** The task's variables after inner steps on its support rows. */
export function adapted(
  spec: ModelSpec,
  meta: MetaParameters,
  task: TaskRows,
  innerSteps: number,
  innerRate: number,
  initial = denseValuesOf(meta),
): Values {
  const dense = new Map(initial);
  for (let step = 0; step < innerSteps; step += 1) {
    const { gradient } = taskLoss(spec, meta, dense, task, supportOf(task));
    for (const { name, block } of spec.variables)
      if (block === 'personal')
        dense.set(
          name,
          dense.get(name)!.map((value, i) => value - innerRate * gradient.get(name)![i]!),
        );
  }
  return dense;
}

/** sum_i weight_i * gradient_i, in task order. */
export function weightedSum(gradients: readonly Gradient[], weights: readonly number[]): Gradient {
  const sum: Gradient = new Map();
  for (const [place, gradient] of gradients.entries())
    for (const [key, values] of gradient) {
      const target = sum.get(key) ?? new Float64Array(values.length);
      for (let index = 0; index < values.length; index += 1)
        target[index]! += weights[place]! * values[index]!;
      sum.set(key, target);
    }
  return sum;
}
