import { text } from '../options/option-values.js';
import { CELL_NAME, cellOfName } from './sides/cells.js';

/** A cell as an option of a bench names it: `W1.first.5`. */
export const cell = text
  .regex(CELL_NAME, 'expected a workload, an order and inner steps, as in W1.first.5')
  .transform(cellOfName);
