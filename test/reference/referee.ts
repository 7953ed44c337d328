/**
 * The referee: losses and the inner loop written row by row in float64, directly from their
 * formulas. The logit of a model is nodes of a float64 tape. It shares only the model spec with
 * the production code.
 */

import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { Leaves, type Values } from './leaves.js';
import { ScalarTape } from './scalar-tape.js';

interface Field {
  readonly name: string;
  /** Features with tables, numbers, the adgroup embedding. */
  readonly group: 0 | 1 | 2;
  readonly vector: number[];
  /** The weighted linear term. */
  readonly linear: number | null;
}

function logitNode(spec: ModelSpec, leaves: Leaves, task: TaskRows, row: number): number {
  const { tape } = leaves;
  const fields = fieldsOf(spec, leaves, task, row);
  const linear = fields.flatMap((field) => (field.linear === null ? [] : [field.linear]));
  return tape.add(leaves.variable('bias')[0]!, ...linear, ...termsOf(spec, leaves, fields));
}

function fieldsOf(spec: ModelSpec, leaves: Leaves, task: TaskRows, row: number): Field[] {
  const { tape } = leaves;
  const k = spec.embeddingWidth;
  const tableField = (name: string, entry: number[]): Field => ({
    name,
    group: 0,
    vector: entry.slice(0, k),
    linear: spec.hasLinear ? entry[k]! : null,
  });
  const categories = spec.categoryFeatures.map((name, place) =>
    tableField(name, leaves.row(name, task.categoryIds[place]![row]!)),
  );
  const bags = spec.bagFeatures.map(({ name, lengthMax }, place) => {
    const places = [...task.bagIds[place]!.subarray(row * lengthMax, (row + 1) * lengthMax)];
    const rows = places.filter((id) => id >= 0).map((id) => leaves.row(name, id));
    const mean = Array.from({ length: spec.tableRowWidth }, (_, column) =>
      rows.length === 0
        ? tape.constant(0)
        : tape.scale(tape.add(...rows.map((entry) => entry[column]!)), 1 / rows.length),
    );
    return tableField(name, mean);
  });
  const numbers = spec.numberFeatures.map((name, place): Field => {
    const x = task.numbers[place]![row]!;
    const factors =
      k === 0 ? [] : leaves.variable('numbers.factors').slice(place * k, (place + 1) * k);
    return {
      name,
      group: 1,
      vector: factors.map((node) => tape.scale(node, x)),
      linear: spec.hasLinear ? tape.scale(leaves.variable('numbers.linear')[place]!, x) : null,
    };
  });
  const own: Field[] = spec.hasAdgroupEmbedding
    ? [
        {
          name: 'adgroupEmbedding',
          group: 2,
          vector: leaves.variable('adgroupEmbedding'),
          linear: null,
        },
      ]
    : [];
  return [...categories, ...bags, ...numbers, ...own];
}

/** Terms of the logit in addition to bias and linear weights. */
function termsOf({ kind, options }: ModelSpec, leaves: Leaves, fields: Field[]): number[] {
  const { tape } = leaves;
  const factorised = fields.filter(({ name }) => options.factorisedFields?.includes(name) ?? true);
  const z = fields.flatMap(({ vector }) => vector);
  const tower = (input: number[]): number[] => hiddenUnits(leaves, input, options.hiddenWidths);
  const output = (input: number[]): number =>
    affine(tape, input, leaves.variable('output.weight'), 1)[0]!;
  // <e_f, S - e_f> is the sum of the products with all other fields.
  const byField = (): number[] =>
    factorised.map((field) =>
      tape.add(
        ...fields
          .filter((other) => other !== field)
          .map((other) => dot(tape, field.vector, other.vector)),
      ),
    );
  const byPair = (): number[] => pairsOf(factorised).map(([a, b]) => dot(tape, a.vector, b.vector));
  const isByField = options.interactions === 'by-field';
  const inner = isByField ? byField : byPair;
  switch (kind) {
    case 'logistic':
      return [];
    case 'fm':
      return isByField ? [output(byField())] : byPair();
    case 'fwfm':
      return [output(byPair())];
    case 'mlp':
      return [output(tower(z))];
    case 'wide-deep': {
      const isDeep = ({ name }: Field): boolean => options.wideFields?.includes(name) !== true;
      return [output(tower(fields.filter(isDeep).flatMap(({ vector }) => vector)))];
    }
    case 'deepfm':
      return isByField ? [output([...tower(z), ...byField()])] : [...byPair(), output(tower(z))];
    case 'ipnn':
      return [output(tower([...z, ...inner()]))];
    case 'opnn':
      return [output(tower([...z, ...outerProducts(tape, factorised)]))];
    case 'pnn':
      return [output(tower([...z, ...inner(), ...outerProducts(tape, factorised)]))];
    case 'dcn-v2': {
      const crossed = crossLayers(leaves, z, options.crossLayers ?? 3, options.crossRank);
      return options.crossTower === 'stacked' || options.hiddenWidths.length === 0
        ? [output(tower(crossed))]
        : [output([...crossed, ...tower(z)])];
    }
    default:
      throw new Error(`the referee has no formula of ${kind}`);
  }
}

/** Each pair once, by the groups of its later and of its earlier field, then by position. */
function pairsOf(fields: Field[]): [Field, Field][] {
  const pairs = fields.flatMap((a, i) =>
    fields.slice(i + 1).map((b, j): { pair: [Field, Field]; order: number[] } => ({
      pair: [a, b],
      order: [b.group, a.group, i, j],
    })),
  );
  return pairs
    .sort((p, q) => p.order.map((x, at) => x - q.order[at]!).find((x) => x !== 0) ?? 0)
    .map(({ pair }) => pair);
}

/** Pair by pair, as in the definition: sum_f sum_g e_f e_g'. */
function outerProducts(tape: ScalarTape, fields: Field[]): number[] {
  const width = fields[0]!.vector.length;
  return Array.from({ length: width * width }, (_, at) => {
    const [row, column] = [Math.floor(at / width), at % width];
    return tape.add(
      ...fields.flatMap((f) => fields.map((g) => tape.multiply(f.vector[row]!, g.vector[column]!))),
    );
  });
}

function crossLayers(leaves: Leaves, x0: number[], count: number, rank?: number): number[] {
  const { tape } = leaves;
  let x = x0;
  for (let layer = 0; layer < count; layer += 1) {
    const variable = (part: string): number[] => leaves.variable(`cross${layer}.${part}`);
    const weighted =
      rank === undefined
        ? affine(tape, x, variable('weight'), x0.length)
        : affine(tape, affine(tape, x, variable('compress'), rank), variable('expand'), x0.length);
    const bias = variable('bias');
    x = x.map((node, at) =>
      tape.add(tape.multiply(x0[at]!, tape.add(weighted[at]!, bias[at]!)), node),
    );
  }
  return x;
}

function hiddenUnits(leaves: Leaves, input: number[], widths: readonly number[]): number[] {
  const { tape } = leaves;
  return widths.reduce((x, width, index) => {
    const bias = leaves.variable(`layer${index}.bias`);
    const weighted = affine(tape, x, leaves.variable(`layer${index}.weight`), width);
    return weighted.map((node, out) => tape.relu(tape.add(node, bias[out]!)));
  }, input);
}

function dot(tape: ScalarTape, a: number[], b: number[]): number {
  return tape.add(...a.map((node, at) => tape.multiply(node, b[at]!)));
}

function affine(tape: ScalarTape, x: number[], weight: number[], outWidth: number): number[] {
  return Array.from({ length: outWidth }, (_, out) =>
    tape.add(...x.map((node, index) => tape.multiply(node, weight[index * outWidth + out]!))),
  );
}

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
