/**
 * The referee of second-order MAML: the inner steps written as nodes of a float64 tape, gradients
 * and all, so that the query loss can be differentiated through them.
 */

import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import {
  denseValuesOf,
  Leaves,
  lossNode,
  queryOf,
  supportOf,
  type Gradient,
  type Values,
} from './referee.js';
import { ScalarTape } from './scalar-tape.js';

/** The task's query loss after inner steps, and its gradient with respect to what they began with. */
export function adaptedLoss(
  spec: ModelSpec,
  meta: MetaParameters,
  task: TaskRows,
  innerSteps: number,
  innerRate: number,
  dense: Values = denseValuesOf(meta),
): { loss: number; gradient: Gradient } {
  const tape = new ScalarTape();
  const initial = new Leaves(tape, dense, meta);
  for (const { name } of spec.variables) initial.variable(name);
  // Every row gets its leaf now, so that all steps share it.
  lossNode(spec, initial, task, { start: 0, end: task.rowCount });
  let current = initial;
  for (let step = 0; step < innerSteps; step += 1)
    current = moved(spec, tape, current, task, innerRate, { dense, meta });
  const loss = lossNode(spec, current, task, queryOf(task));
  const slopes = tape.gradient(loss);
  return {
    loss: tape.valueOf(loss),
    gradient: new Map(
      [...initial.nodes].map(([key, nodes]) => [key, Float64Array.from(nodes, (n) => slopes[n]!)]),
    ),
  };
}

function moved(
  spec: ModelSpec,
  tape: ScalarTape,
  leaves: Leaves,
  task: TaskRows,
  innerRate: number,
  { dense, meta }: { dense: Values; meta: MetaParameters },
): Leaves {
  const names = spec.variables.filter(({ block }) => block === 'personal').map(({ name }) => name);
  const loss = lossNode(spec, leaves, task, supportOf(task));
  const before = names.flatMap((name) => leaves.variable(name));
  const slopes = tape.gradientNodes(loss, before);
  const after = before.map((node, place) => tape.add(node, tape.scale(slopes[place]!, -innerRate)));
  const nodes = new Map(leaves.nodes);
  let start = 0;
  for (const name of names) {
    const { length } = leaves.variable(name);
    nodes.set(name, after.slice(start, start + length));
    start += length;
  }
  return new Leaves(tape, dense, meta, nodes);
}
