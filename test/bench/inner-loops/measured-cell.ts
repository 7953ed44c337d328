/** The measurements of a cell of the inner-loop benchmark. */

import { cellName, nominalFlops, type Cell } from './sides/cells.js';
import type { MeasuredCell } from './measure-cell.js';
import type { WorkloadShape } from './sides/workload-data.js';

/** @param commit of the tree that is measured. */
export function measuredCellOf(cell: Cell, shape: WorkloadShape, commit: string): MeasuredCell {
  return {
    ...{ cell: cellName(cell), commit },
    taskCount: shape.taskCount,
    nominalGflop: nominalFlops(shape, cell) / 1e9,
  };
}
