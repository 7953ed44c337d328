/** Where the value of a feature comes from: a column, an expression, or the caller. */

import type { FeatureConfig } from '../config/data-config.js';
import { QianmoError } from '../base/errors.js';
import { membersOfColumn } from './bag-members.js';
import { textOfColumn, type TextOfValue } from './values/column-text.js';
import { typeOfColumn, type ColumnType, type ColumnTypes } from './values/column-type.js';
import { STORED_SIZE_MAX } from './encoding-rules.js';
import { isNumeric } from './expressions/bound-expression.js';
import { textOfValue } from './expressions/casts.js';
import { compileExpression } from './expressions/compile-expression.js';
import { doubleOfText } from './values/number-text.js';
import { columnOf, rejectedRow, type BroughtValues, type RawRow } from './values/raw-row.js';

/** An empty text and null are both an empty value. */
export type TextSource = (row: RawRow, brought: BroughtValues) => string | null;
/** Finite and within the size that the store holds. */
export type NumberSource = (row: RawRow, brought: BroughtValues) => number;
/** Hands over members, empty ones included, until `take` returns false. */
export type MembersSource = (
  row: RawRow,
  brought: BroughtValues,
  take: (member: string | null) => boolean,
) => void;

/** A feature whose value the caller must bring, because the row encoder cannot compute it. */
export interface BroughtValue {
  readonly feature: string;
  /** The SQL that `prepare` computes; null where it reads a column. */
  readonly expression: string | null;
  /** The form of the value; a text is what DuckDB prints of it. */
  readonly form: 'text or null' | 'list of texts or null' | 'number or null';
  readonly reason: string;
}

interface Sourced<Source> {
  readonly source: Source;
  /** Null where the row encoder computes the value. */
  readonly brought: BroughtValue | null;
}

type Feature<Kind extends FeatureConfig['kind']> = Extract<FeatureConfig, { kind: Kind }>;

export function categorySource(
  feature: Feature<'category'>,
  columns: ColumnTypes,
): Sourced<TextSource> {
  const { name: featureName, expression } = feature;
  if (expression !== undefined) {
    const compiled = compileExpression(expression, columns);
    if (!compiled.isComputed) return broughtText(featureName, expression, compiled.reason);
    const { type, evaluate } = compiled;
    return {
      source: (row) => {
        const value = evaluate(row);
        return value === null ? null : textOfValue(type, value);
      },
      brought: null,
    };
  }
  const name = feature.column ?? featureName;
  const type = typeOfColumn(columns, name);
  const textOf = textOfColumn(type);
  if (textOf === null) return broughtText(featureName, null, unreadType(name, type));
  return { source: (row) => textOf(columnOf(row, name), name), brought: null };
}

function broughtText(
  feature: string,
  expression: string | null,
  reason: string,
): Sourced<TextSource> {
  const form = 'text or null';
  return {
    brought: { feature, expression, form, reason },
    source: (_row, brought) => {
      const value = broughtValueOf(brought, feature, form);
      if (value === null || typeof value === 'string') return value;
      throw wrongBroughtValue(feature, form);
    },
  };
}

export function bagSource(feature: Feature<'bag'>, columns: ColumnTypes): Sourced<MembersSource> {
  const name = feature.column ?? feature.name;
  const type = typeOfColumn(columns, name);
  const eachMember = membersOfColumn(type, feature.separator);
  if (eachMember !== null)
    return {
      source: (row, _brought, take) => eachMember(columnOf(row, name), name, take),
      brought: null,
    };
  const form = 'list of texts or null';
  return {
    brought: { feature: feature.name, expression: null, form, reason: unreadType(name, type) },
    source: (_row, brought, take) => {
      const members = broughtValueOf(brought, feature.name, form);
      if (members === null) return;
      if (!Array.isArray(members)) throw wrongBroughtValue(feature.name, form);
      for (const member of members as readonly unknown[]) {
        if (member !== null && typeof member !== 'string')
          throw wrongBroughtValue(feature.name, form);
        if (!take(member)) return;
      }
    },
  };
}

export function numberSource(
  feature: Feature<'number'>,
  columns: ColumnTypes,
): Sourced<NumberSource> {
  const { name: featureName, expression } = feature;
  if (expression !== undefined) return numberOfExpression(feature, expression, columns);
  const name = feature.column ?? featureName;
  const type = typeOfColumn(columns, name);
  const textOf = textOfColumn(type);
  if (textOf === null) return broughtNumber(feature, null, unreadType(name, type));
  const read = numberOfColumn(type, textOf, name);
  const rejectColumn = (row: RawRow, expected: string) =>
    rejectedRow(
      foundInColumn(name, textOf(columnOf(row, name), name), expected),
      `correct the value of "${name}"`,
    );
  return { source: judgedNumber(feature, read, rejectColumn), brought: null };
}

function numberOfExpression(
  feature: Feature<'number'>,
  expression: string,
  columns: ColumnTypes,
): Sourced<NumberSource> {
  const compiled = compileExpression(expression, columns);
  if (!compiled.isComputed) return broughtNumber(feature, expression, compiled.reason);
  const { type, evaluate } = compiled;
  if (type !== 'VARCHAR' && type !== 'BOOLEAN' && !isNumeric(type))
    return broughtNumber(feature, expression, `its type is ${type}, which is not a number`);
  const read: ReadNumber = (row) => {
    const value = evaluate(row);
    if (typeof value === 'string') return doubleOfText(value) ?? NaN;
    return value === null ? null : Number(value);
  };
  const what = `the expression of the feature "${feature.name}" does not give`;
  const cure = 'correct the values of the columns that the expression names';
  return {
    source: judgedNumber(feature, read, (_row, expected) =>
      rejectedRow(`${what} ${expected}`, cure),
    ),
    brought: null,
  };
}

/** Null where there is no value; NaN where there is one that is not a number. */
type ReadNumber = (row: RawRow, brought: BroughtValues) => number | null;

function numberOfColumn(type: ColumnType, textOf: TextOfValue, name: string): ReadNumber {
  // A number survives the way through the text that `prepare` reads; as text, -0 is written 0.
  const isText = type.log === 'text';
  const isPlain = isText || type.type === 'DOUBLE';
  return (row) => {
    const value = columnOf(row, name);
    if (isPlain && typeof value === 'number') return isText ? value + 0 : value;
    const text = textOf(value, name);
    return text === null || text === '' ? null : (doubleOfText(text) ?? NaN);
  };
}

function broughtNumber(
  feature: Feature<'number'>,
  expression: string | null,
  reason: string,
): Sourced<NumberSource> {
  const form = 'number or null';
  const read: ReadNumber = (_row, brought) => {
    const value = broughtValueOf(brought, feature.name, form);
    if (value === null || typeof value === 'number') return value;
    throw wrongBroughtValue(feature.name, form);
  };
  return {
    brought: { feature: feature.name, expression, form, reason },
    source: judgedNumber(feature, read, (_row, expected) =>
      rejectedRow(
        `the value brought for the feature "${feature.name}" is not ${expected}`,
        `bring ${expected}`,
      ),
    ),
  };
}

const STORED_MAX = Number(STORED_SIZE_MAX);

/** Refuses what `prepare` refuses, and puts `missing` in the place of no value. */
function judgedNumber(
  { missing }: Feature<'number'>,
  read: ReadNumber,
  rejectionOf: (row: RawRow, expected: string) => QianmoError,
): NumberSource {
  return (row, brought) => {
    const value = read(row, brought);
    if (value === null) {
      if (missing !== undefined) return missing;
      throw rejectionOf(row, 'a number');
    }
    if (!Number.isFinite(value)) throw rejectionOf(row, 'a number');
    if (Math.abs(value) > STORED_MAX)
      throw rejectionOf(row, `a number within ${STORED_SIZE_MAX} of 0`);
    return value;
  };
}

function unreadType(name: string, type: ColumnType): string {
  const typeName = type.log === 'typed' ? type.type : 'text';
  return `the column "${name}" has the type ${typeName}, which rows are not read in`;
}

/** The reason of `prepare` in its words. */
function foundInColumn(name: string, text: string | null, expected: string): string {
  const found = text === null ? 'nothing' : `"${text}"`;
  return `the column "${name}" holds ${found}, expected ${expected}`;
}

function broughtValueOf(brought: BroughtValues, feature: string, form: string): unknown {
  const value = Object.hasOwn(brought, feature) ? brought[feature] : undefined;
  if (value !== undefined) return value;
  throw new QianmoError({
    kind: 'data',
    what: `no value was brought for the feature "${feature}"`,
    expected: form,
    cure: 'bring a value for every feature that the encoder lists in broughtValues',
  });
}

function wrongBroughtValue(feature: string, form: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: `the value brought for the feature "${feature}" has the wrong form`,
    expected: form,
    cure: 'bring a value of that form',
  });
}
