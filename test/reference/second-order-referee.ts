/**
 * The referee of outer gradients: start and inner steps, including their gradients, as nodes of a
 * float64 tape, so that the query loss can be differentiated through them.
 */

import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';
import { denseValuesOf, Leaves, lossNode, queryOf, supportOf, type Gradient } from './referee.js';
import { ScalarTape } from './scalar-tape.js';

/** The inputs of a method's start and step: nodes of the tape. */
export interface RefereeTask {
  readonly tape: ScalarTape;
  readonly task: TaskRows;
  /** A variable as all tasks share it, including the method's own variables. */
  readonly variable: (name: string) => number[];
  readonly tableRow: (table: string, id: number) => number[];
}

interface RefereeStep {
  readonly name: string;
  readonly block: readonly number[];
  /** Rate times gradient. */
  readonly scaled: readonly number[];
}

/** The settings of an inner loop, with the method's own start and step if it has them. */
export interface RefereeLoop {
  readonly innerSteps: number;
  readonly innerRate: number;
  readonly order?: 'first' | 'second';
  readonly start?: (tasks: RefereeTask, name: string) => number[];
  readonly step?: (tasks: RefereeTask, step: RefereeStep) => number[];
}

/** The task's query loss after inner steps, and its gradient with respect to their starting point. */
export function adaptedLoss(
  spec: ModelSpec,
  meta: MetaParameters,
  task: TaskRows,
  loop: RefereeLoop,
): { loss: number; gradient: Gradient } {
  const tape = new ScalarTape();
  const dense = denseValuesOf(meta);
  const initial = new Leaves(tape, dense, meta);
  for (const { name } of spec.variables) initial.variable(name);
  // Every row gets its leaf first, so that all steps share it.
  lossNode(spec, initial, task, { start: 0, end: task.rowCount });
  const seen: RefereeTask = {
    ...{ tape, task },
    variable: (name) => initial.variable(name),
    tableRow: (table, id) => initial.row(table, id),
  };
  const start = new Leaves(tape, dense, meta, startOf(spec, loop, seen, initial));
  const loss = lossNode(spec, walk(spec, loop, seen, start), task, queryOf(task));
  const slopes = tape.gradient(loss);
  return {
    loss: tape.valueOf(loss),
    gradient: new Map(
      [...initial.nodes].map(([key, nodes]) => [key, Float64Array.from(nodes, (n) => slopes[n]!)]),
    ),
  };
}

function personalOf(spec: ModelSpec): string[] {
  return spec.variables.filter(({ block }) => block === 'personal').map(({ name }) => name);
}

function startOf(
  spec: ModelSpec,
  loop: RefereeLoop,
  seen: RefereeTask,
  initial: Leaves,
): Map<string, number[]> {
  const start = new Map(initial.nodes);
  for (const name of personalOf(spec))
    start.set(name, loop.start?.(seen, name) ?? initial.variable(name));
  return start;
}

/** All nodes after the steps. */
function walk(spec: ModelSpec, loop: RefereeLoop, seen: RefereeTask, start: Leaves): Leaves {
  const { tape, task } = seen;
  const { innerSteps, innerRate } = loop;
  const names = personalOf(spec);
  let current = start;
  for (let stepIndex = 0; stepIndex < innerSteps; stepIndex += 1) {
    const loss = lossNode(spec, current, task, supportOf(task));
    const before = names.flatMap((name) => current.variable(name));
    const slopes = tape.gradientNodes(loss, before);
    const nodes = new Map(current.nodes);
    let place = 0;
    for (const name of names) {
      const block = current.variable(name);
      const scaled = block.map((_, index) => {
        const gradient = tape.scale(slopes[place + index]!, innerRate);
        return loop.order === 'first' ? tape.constant(tape.valueOf(gradient)) : gradient;
      });
      nodes.set(
        name,
        loop.step?.(seen, { name, block, scaled }) ??
          block.map((node, index) => tape.add(node, tape.scale(scaled[index]!, -1))),
      );
      place += block.length;
    }
    current = new Leaves(tape, current.dense, current.meta, nodes);
  }
  return current;
}
