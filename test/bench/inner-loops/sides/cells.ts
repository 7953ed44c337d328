/** The eight cells of the benchmark: workload, order of the meta-gradient, inner steps. */

import type { WorkloadName, WorkloadShape } from './workload-data.js';

type Order = 'first' | 'second';

export interface Cell {
  readonly workload: WorkloadName;
  readonly order: Order;
  readonly innerSteps: number;
}

export const CELLS: readonly Cell[] = (['W1', 'W2'] as const).flatMap((workload) =>
  (['first', 'second'] as const).flatMap((order) =>
    [1, 5].map((innerSteps): Cell => ({ workload, order, innerSteps })),
  ),
);

/** `W1.first.5` */
export function cellName({ workload, order, innerSteps }: Cell): string {
  return `${workload}.${order}.${innerSteps}`;
}

export function cellOfName(name: string): Cell {
  const found = CELLS.find((cell) => cellName(cell) === name);
  if (found === undefined) throw new Error(`there is no cell ${name}`);
  return found;
}

/**
 * Floating-point operations of one meta step by the textbook algorithm, counting only products. A
 * forward pass of a layer is one product; a backward pass is another for the weights and, above the
 * input, another for the layer's input. Second order adds for each inner step the backward pass of
 * its gradient: a product for each operand of each product of the step.
 */
export function nominalFlops(shape: WorkloadShape, { order, innerSteps }: Cell): number {
  const { taskCount, rowsPerTask, widths, trunkLayerCount, table } = shape;
  const rows = taskCount * rowsPerTask;
  const layers = widths.slice(1).map((outputs, layer) => 2 * rows * (widths[layer] ?? 0) * outputs);
  const trunk = sum(layers.slice(0, trunkLayerCount));
  const head = layers.slice(trunkLayerCount);
  const [first = 0] = head;
  // The input of the adapted part needs no gradient in the inner loop.
  const innerForward = sum(head);
  const innerBackward = 2 * sum(head) - first;
  const trunkBackward = table === null ? 0 : 2 * trunk;
  const reachesTrunk = trunkLayerCount > 0;
  const outer = trunk + sum(head) + (2 * sum(head) - (reachesTrunk ? 0 : first)) + trunkBackward;
  const inner = trunk + innerSteps * (innerForward + innerBackward);
  if (order === 'first') return inner + outer;
  // Each product of an inner step becomes two products when it is differentiated again; those
  // towards inputs that nothing depends on are left out.
  const again = 2 * (innerForward + innerBackward) - (reachesTrunk ? 0 : 2 * first);
  return inner + outer + innerSteps * again + (reachesTrunk ? trunkBackward : 0);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
