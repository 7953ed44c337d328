/** The columns of the logs as SQL sees them while rows are judged, and the type of a judged field. */

import type { LogColumn } from './log-columns.js';
import { literal } from './sql.js';

/** SQL of one field of `judged`, and the conditions under which it makes the row refused. */
export interface JudgedField {
  readonly sql: string;
  /** Pairs of a condition and SQL of the reason. */
  readonly refusals: readonly (readonly [condition: string, reason: string])[];
}

export class RawColumns {
  private readonly numberIndexes = new Set<number>();

  /** @param hasEmptyTexts false if the reader of the logs has replaced empty texts by null. */
  constructor(
    private readonly columns: readonly LogColumn[],
    private readonly hasEmptyTexts = true,
  ) {}

  index(name: string): number {
    const index = this.columns.findIndex((column) => column.name === name);
    if (index < 0) throw new Error(`the column ${name} was not read`);
    return index;
  }
  type(name: string): string | null {
    return this.columns[this.index(name)]?.type ?? null;
  }
  sql(name: string): string {
    return `"qm$${this.index(name)}"`;
  }
  /** An empty text counts as missing. */
  text(name: string): string {
    if (this.isNumber(name)) return `CAST(${this.sql(name)} AS VARCHAR)`;
    if (this.type(name) === null && !this.hasEmptyTexts) return this.sql(name);
    return `nullif(CAST(${this.sql(name)} AS VARCHAR), '')`;
  }
  /** A text, or the number that is kept in its place: either tells two values apart. */
  value(name: string): string {
    return this.isNumber(name) ? this.sql(name) : this.text(name);
  }
  number(name: string): string {
    if (this.isNumber(name)) return this.sql(name);
    this.numberIndexes.add(this.index(name));
    return `"qn$${this.index(name)}"`;
  }
  private isNumber(name: string): boolean {
    const column = this.columns[this.index(name)];
    return column !== undefined && isKeptNumber(column);
  }
  /**
   * SQL of `typed_logs` with the numbers that fields have asked for so far. A text is read as a number once,
   * however often fields and conditions name it.
   */
  source(): string {
    const numbers = [...this.numberIndexes].map(
      (index) => `, TRY_CAST("qm$${index}" AS DOUBLE) AS "qn$${index}"`,
    );
    return `(SELECT *${numbers.join('')} FROM typed_logs)`;
  }
}

/** Whether the numbers of a column are kept, and not its texts. */
export function isKeptNumber({ keptAs = 'VARCHAR' }: LogColumn): boolean {
  return keptAs !== 'VARCHAR';
}

/** SQL of `the column "x" holds "abc", expected ...`. */
export function foundIn(name: string, expected: string, raw: RawColumns): string {
  return `${literal(`the column "${name}" holds `)} || coalesce('"' || CAST(${raw.sql(name)} AS VARCHAR) || '"', 'nothing') || ${literal(`, expected ${expected}`)}`;
}
