/**
 * Compiles an SQL expression of the subset into a function of raw rows, equal to what DuckDB gives
 * for it within `TRY(...)`. The subset is documented in `infra/docs/expressions.md`.
 */

import { typeOfColumn, type ColumnTypes } from '../values/column-type.js';
import type { RawRow } from '../values/raw-row.js';
import { bindExpression } from './bind-expression.js';
import { outside, SqlFailure, type Value, type ValueType } from './bound-expression.js';
import { boundColumn } from './expression-column.js';
import { parseExpression } from './parser.js';
import { OutsideSubset } from './syntax.js';

type CompiledExpression =
  | {
      readonly isComputed: true;
      readonly type: ValueType;
      /**
       * Null where DuckDB fails on the row.
       * @throws QianmoError of kind `data` when the row lacks a column, or holds a value that is not
       *   of its type.
       */
      readonly evaluate: (row: RawRow) => Value;
    }
  | { readonly isComputed: false; readonly reason: string };

export function compileExpression(sql: string, columns: ColumnTypes): CompiledExpression {
  try {
    const { type, evaluate, decimal } = bindExpression(parseExpression(sql), (name) =>
      boundColumn(name, typeOfColumn(columns, name)),
    );
    if (decimal !== undefined) return outside('a number with a point alone: write 0.5::DOUBLE');
    return { isComputed: true, type, evaluate: (row) => tried(evaluate, row) };
  } catch (cause) {
    if (cause instanceof OutsideSubset) return { isComputed: false, reason: cause.message };
    throw cause;
  }
}

function tried(evaluate: (row: RawRow) => Value, row: RawRow): Value {
  try {
    return evaluate(row);
  } catch (cause) {
    if (cause instanceof SqlFailure) return null;
    throw cause;
  }
}
