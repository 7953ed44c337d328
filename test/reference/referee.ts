/**
 * The referee: models, losses and the inner loop written plainly, row by row in float64, straight
 * from their formulas. Shares nothing with the production code but the model spec.
 */

import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { ScalarTape } from './scalar-tape.js';

export type Values = Map<string, Float64Array>;
/** Dense variables by name, table rows by `table/id`. */
export type Gradient = Map<string, Float64Array>;

export function denseValuesOf(meta: MetaParameters): Values {
  return new Map([...meta.dense].map(([name, { values }]) => [name, Float64Array.from(values)]));
}

/** Nodes of the variables and touched table rows on one tape. */
export class Leaves {
  constructor(
    readonly tape: ScalarTape,
    readonly dense: Values,
    readonly meta: MetaParameters,
    readonly nodes = new Map<string, number[]>(),
  ) {}
  variable(name: string): number[] {
    return this.leaf(name, () => [...this.dense.get(name)!]);
  }
  row(table: string, id: number): number[] {
    return this.leaf(`${table}/${id}`, () => {
      const { width, values } = this.meta.tables.get(table)!;
      return [...values.subarray(id * width, (id + 1) * width)];
    });
  }
  private leaf(key: string, valuesOf: () => number[]): number[] {
    const known = this.nodes.get(key);
    if (known !== undefined) return known;
    const nodes = valuesOf().map((value) => this.tape.constant(value));
    this.nodes.set(key, nodes);
    return nodes;
  }
}

function logitNode(spec: ModelSpec, leaves: Leaves, task: TaskRows, row: number): number {
  const { tape } = leaves;
  const k = spec.embeddingWidth;
  const terms = [leaves.variable('bias')[0]!];
  const fields: number[][] = [];
  for (const [place, name] of spec.categoryFeatures.entries()) {
    const entry = leaves.row(name, task.categoryIds[place]![row]!);
    fields.push(entry.slice(0, k));
    if (spec.hasLinear) terms.push(entry[k]!);
  }
  for (const [place, { name, lengthMax }] of spec.bagFeatures.entries()) {
    const ids = [...task.bagIds[place]!.subarray(row * lengthMax, (row + 1) * lengthMax)];
    const rows = ids.filter((id) => id >= 0).map((id) => leaves.row(name, id));
    const mean = Array.from({ length: spec.tableRowWidth }, (_, column) =>
      rows.length === 0
        ? tape.constant(0)
        : tape.scale(tape.add(...rows.map((entry) => entry[column]!)), 1 / rows.length),
    );
    fields.push(mean.slice(0, k));
    if (spec.hasLinear) terms.push(mean[k]!);
  }
  for (const place of spec.numberFeatures.keys()) {
    const x = task.numbers[place]![row]!;
    if (k > 0) {
      const factors = leaves.variable('numbers.factors').slice(place * k, (place + 1) * k);
      fields.push(factors.map((node) => tape.scale(node, x)));
    }
    if (spec.hasLinear) terms.push(tape.scale(leaves.variable('numbers.linear')[place]!, x));
  }
  if (spec.hasAdgroupEmbedding) fields.push(leaves.variable('adgroupEmbedding'));
  if (spec.hasFactorisation)
    for (let a = 0; a < fields.length; a += 1)
      for (let b = a + 1; b < fields.length; b += 1)
        for (let column = 0; column < k; column += 1)
          terms.push(tape.multiply(fields[a]![column]!, fields[b]![column]!));
  if (spec.kind !== 'logistic') {
    let x = fields.flat();
    for (const [index, width] of spec.hiddenWidths.entries()) {
      const bias = leaves.variable(`layer${index}.bias`);
      const weighted = affine(tape, x, leaves.variable(`layer${index}.weight`), width);
      x = weighted.map((node, out) => tape.relu(tape.add(node, bias[out]!)));
    }
    terms.push(...affine(tape, x, leaves.variable('output.weight'), 1));
  }
  return tape.add(...terms);
}

function affine(tape: ScalarTape, x: number[], weight: number[], outWidth: number): number[] {
  return Array.from({ length: outWidth }, (_, out) =>
    tape.add(...x.map((node, index) => tape.multiply(node, weight[index * outWidth + out]!))),
  );
}

export interface RowSpan {
  readonly start: number;
  readonly end: number;
  /** Every row unless given. */
  readonly stride?: number;
}

export const supportOf = (task: TaskRows): RowSpan => ({ start: 0, end: task.supportRowCount });
export const queryOf = (task: TaskRows): RowSpan => ({
  start: task.supportRowCount,
  end: task.rowCount,
});
export const allOf = (task: TaskRows): RowSpan => ({ start: 0, end: task.rowCount });

/** The task loss over the span: 0 where it has no impressions. */
export function lossNode(spec: ModelSpec, leaves: Leaves, task: TaskRows, span: RowSpan): number {
  const { tape } = leaves;
  const terms = [tape.constant(0)];
  let impressionSum = 0;
  for (let row = span.start; row < span.end; row += span.stride ?? 1) {
    const impressions = task.impressions[row]!;
    const z = logitNode(spec, leaves, task, row);
    terms.push(tape.scale(tape.softplus(z), impressions), tape.scale(z, -task.clicks[row]!));
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

/** sum_i weight_i * gradient_i, in order of the tasks. */
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
