/**
 * The division of a set's rows, written once and read by every side: which tasks are held out, and which of their
 * rows are support.
 */

import { at, numberAt } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';

/** The support rows of a task: its first so many rows, or the rows of its first so many days. */
export interface SupportRule {
  readonly by: 'rows' | 'days';
  readonly count: number;
}

export interface RoledRow {
  /** The number of the row in the log. */
  readonly row: number;
  readonly task: string;
  /** A role of `data.splitFile`. */
  readonly role: string;
}

interface Division {
  readonly rule: SupportRule;
  readonly seed: number;
  /** Tasks with fewer query rows only lend their rows to training. */
  readonly queryRowsMin: number;
  /** Later query rows of held-out tasks are left out. */
  readonly heldOutQueryRowsMax: number;
}

const TEST_SHARE = 0.25;
const VALIDATION_SHARE = 0.15;

/**
 * @param times orders the rows of a task; drawn if null
 * @returns ascending by row; rows of tasks that are too small have the role `train`
 */
export function rolesOf(
  tasks: readonly string[],
  times: readonly number[] | null,
  division: Division,
): RoledRow[] {
  const { seed, rule, queryRowsMin, heldOutQueryRowsMax } = division;
  const stream = randomStream(seed, 'real bench order');
  const order = times ?? tasks.map(() => stream.uniform());
  const byTask = new Map<string, number[]>();
  for (const [row, task] of tasks.entries()) {
    const rows = byTask.get(task);
    if (rows === undefined) byTask.set(task, [row]);
    else rows.push(row);
  }
  const divided = [...byTask].sort(([one], [other]) => (one < other ? -1 : 1));
  const large: { task: string; rows: number[]; supportCount: number }[] = [];
  const roled: RoledRow[] = [];
  for (const [task, rows] of divided) {
    rows.sort((one, other) => numberAt(order, one) - numberAt(order, other) || one - other);
    const supportCount = supportCountOf(
      rows.map((row) => numberAt(order, row)),
      rule,
    );
    if (rows.length - supportCount >= queryRowsMin) large.push({ task, rows, supportCount });
    else roled.push(...rows.map((row) => ({ row, task, role: 'train' })));
  }
  const places = randomStream(seed, 'real bench tasks').shuffle(large.map((_, place) => place));
  const testCount = Math.round(large.length * TEST_SHARE);
  const heldOutCount = testCount + Math.round(large.length * VALIDATION_SHARE);
  for (const [drawn, place] of places.entries()) {
    const split = drawn < testCount ? 'test' : drawn < heldOutCount ? 'validation' : 'train';
    const { task, rows, supportCount } = at(large, place);
    const end = split === 'train' ? rows.length : supportCount + heldOutQueryRowsMax;
    for (const [position, row] of rows.slice(0, end).entries()) {
      const part = position < supportCount ? 'support' : 'query';
      roled.push({ row, task, role: `${split}-${part}` });
    }
  }
  return roled.sort((one, other) => one.row - other.row);
}

/** @param times of a task's rows, ascending */
function supportCountOf(times: readonly number[], { by, count }: SupportRule): number {
  if (by === 'rows') return count;
  const days = [...new Set(times)];
  const end = days[count];
  return end === undefined ? times.length : times.indexOf(end);
}

export function splitCsvOf(roled: readonly RoledRow[]): string {
  const lines = roled.map(({ row, task, role }) => `${row},${task},${role}`);
  return `${['row,task,role', ...lines].join('\n')}\n`;
}
