/** Divides a spec into learned and frozen parts, and finds the rows of a row pack that have a gradient. */

import { at } from '../base/arrays.js';
import type { RowPackLayout } from '../tasks/row-pack.js';
import type { ModelSpec } from './model-spec.js';
import type { Variable } from '../tensors/variable.js';

export function learnedVariables({ learned, variables }: ModelSpec): readonly Variable[] {
  const names = new Set(learned.variables);
  return variables.filter(({ name }) => names.has(name));
}

export function frozenVariables({ learned, variables }: ModelSpec): readonly Variable[] {
  const names = new Set(learned.variables);
  return variables.filter(({ name }) => !names.has(name));
}

export function learnsAll({ learned, variables, tables }: ModelSpec): boolean {
  return learned.variables.length === variables.length && learned.tables.length === tables.length;
}

/** The rows of a row pack that have a gradient: those of tables that learn, in their order. */
export interface LearnedRows {
  readonly rowCount: number;
  /** For each learned table, where its rows begin in the pack and among the learned rows. */
  readonly spans: readonly LearnedSpan[];
}

interface LearnedSpan {
  /** Index of the table in the spec. */
  readonly tableIndex: number;
  readonly packStart: number;
  readonly start: number;
  readonly rowCount: number;
}

export function learnedRowsOf({ learned, tables }: ModelSpec, layout: RowPackLayout): LearnedRows {
  const names = new Set(learned.tables);
  const spans: LearnedSpan[] = [];
  let start = 0;
  for (const [tableIndex, { name }] of tables.entries()) {
    if (!names.has(name)) continue;
    const rowCount = at(layout.idsByTable, tableIndex).length;
    spans.push({ tableIndex, packStart: at(layout.startByTable, tableIndex), start, rowCount });
    start += rowCount;
  }
  return { rowCount: start, spans };
}
