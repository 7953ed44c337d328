/** Where the value of a feature comes from: a column, an expression, or the caller. */

import type { FeatureConfig } from '../config/data-config.js';
import { QianmoError } from '../base/errors.js';
import { textOfColumn, type TextOfValue, textOfTyped } from './values/column-text.js';
import { typeOfColumn, type ColumnType, type ColumnTypes } from './values/column-type.js';
import { STORED_SIZE_MAX, JSON_LIST_START } from './encoding-rules.js';
import { isNumeric } from './expressions/bound-expression.js';
import { textOfValue } from './expressions/casts.js';
import { compileExpression } from './expressions/compile-expression.js';
import { doubleOfText } from './values/number-text.js';
import {
  columnOf,
  rejectedRow,
  type BroughtValues,
  type RawRow,
  wrongValue,
} from './values/raw-row.js';
import { membersOfJsonList } from './json-list.js';
import { textOfListMember } from './values/json-text.js';

/** Hands over the members of a bag, empty ones included, until `take` returns false. */
type EachMember = (
  value: unknown,
  columnName: string,
  take: (member: string | null) => boolean,
) => void;

const LIST_TYPE = /^(.*)\[\d*\]$/;

/** @returns null where the column's type is not one that rows can be read in. */
function membersOfColumn(type: ColumnType, separator: string): EachMember | null {
  const element = type.log === 'typed' ? LIST_TYPE.exec(type.type)?.[1] : undefined;
  if (element !== undefined) return membersOfTypedList(element);
  const textOf = textOfColumn(type);
  if (textOf === null) return null;
  const mayHoldJson = type.log === 'text';
  return (value, name, take) => {
    if (mayHoldJson && Array.isArray(value)) {
      for (const member of value) if (!take(textOfListMember(member))) return;
      return;
    }
    const text = typeof value === 'string' ? value : textOf(value, name);
    if (text === null) return;
    const members =
      mayHoldJson && text.startsWith(JSON_LIST_START) ? membersOfJsonList(text) : null;
    if (members === null) eachPart(text, separator, take);
    else for (const member of members) if (!take(member)) return;
  };
}

function membersOfTypedList(element: string): EachMember | null {
  const textOf = textOfTyped(element);
  if (textOf === null) return null;
  return (value, name, take) => {
    if (value === null) return;
    if (!Array.isArray(value)) throw wrongValue(name, 'a list', value);
    for (const member of value as readonly unknown[]) if (!take(textOf(member, name))) return;
  };
}

function eachPart(text: string, separator: string, take: (part: string) => boolean): void {
  let start = 0;
  for (;;) {
    const end = text.indexOf(separator, start);
    if (!take(end < 0 ? text.slice(start) : text.slice(start, end)) || end < 0) return;
    start = end + separator.length;
  }
}

/** An empty text and null are both an empty value. */
export type ReadText = (picked: unknown) => string | null;
/** Finite and within the size that the store holds. */
export type ReadNumber = (picked: unknown) => number;
/** Hands over members, empty ones included, until `take` returns false. */
export type ReadMembers = (picked: unknown, take: (member: string | null) => boolean) => void;

/** A feature whose value the caller must bring, because the row encoder cannot compute it. */
export interface BroughtValue {
  readonly feature: string;
  /** The SQL that `prepare` computes; null where it reads a column. */
  readonly expression: string | null;
  /** The form of the value; a text is what DuckDB prints of it. */
  readonly form: 'text or null' | 'list of texts or null' | 'number or null';
  readonly reason: string;
}

/** What a feature is made of, and how it is read. */
export interface FeatureSource<Read> {
  /** The column, or the name of a brought value, that alone decides; null where the whole row does. */
  readonly column: string | null;
  /** What of a row decides: the value of `column`, or the row. @throws if the row lacks it. */
  readonly pick: (row: RawRow, brought: BroughtValues) => unknown;
  readonly read: Read;
  /** Whether a text that is picked, or the texts of a list, are read as they are. */
  readonly keepsTexts: boolean;
  /** Null where the row encoder computes the value. */
  readonly brought: BroughtValue | null;
}

type Feature<Kind extends FeatureConfig['kind']> = Extract<FeatureConfig, { kind: Kind }>;

function ofColumn<Read>(name: string, read: Read, keepsTexts: boolean): FeatureSource<Read> {
  return { column: name, pick: (row) => columnOf(row, name), read, keepsTexts, brought: null };
}

function ofRow<Read>(read: Read): FeatureSource<Read> {
  return { column: null, pick: (row) => row, read, keepsTexts: false, brought: null };
}

function ofBrought<Read>(brought: BroughtValue, read: Read): FeatureSource<Read> {
  const { feature, form } = brought;
  const pick = (_row: RawRow, values: BroughtValues): unknown =>
    broughtValueOf(values, feature, form);
  return { column: feature, pick, read, keepsTexts: form !== 'number or null', brought };
}

function isOfTexts(type: ColumnType): boolean {
  return type.log === 'text' || type.type === 'VARCHAR';
}

export function categorySource(
  feature: Feature<'category'>,
  columns: ColumnTypes,
): FeatureSource<ReadText> {
  const { name: featureName, expression } = feature;
  if (expression !== undefined) {
    const compiled = compileExpression(expression, columns);
    if (!compiled.isComputed) return broughtText(featureName, expression, compiled.reason);
    const { type, evaluate } = compiled;
    return ofRow((row) => {
      // `ofRow` picks nothing else.
      const value = evaluate(row as RawRow);
      return value === null ? null : textOfValue(type, value);
    });
  }
  const name = feature.column ?? featureName;
  const type = typeOfColumn(columns, name);
  const textOf = textOfColumn(type);
  if (textOf === null) return broughtText(featureName, null, unreadType(name, type));
  return ofColumn(name, (value) => textOf(value, name), isOfTexts(type));
}

function broughtText(
  feature: string,
  expression: string | null,
  reason: string,
): FeatureSource<ReadText> {
  const form = 'text or null';
  return ofBrought({ feature, expression, form, reason }, (value) => {
    if (value === null || typeof value === 'string') return value;
    throw wrongBroughtValue(feature, form);
  });
}

export function bagSource(
  feature: Feature<'bag'>,
  columns: ColumnTypes,
): FeatureSource<ReadMembers> {
  const name = feature.column ?? feature.name;
  const type = typeOfColumn(columns, name);
  const eachMember = membersOfColumn(type, feature.separator);
  if (eachMember !== null) {
    const keepsTexts = type.log === 'text' || type.type.startsWith('VARCHAR[');
    return ofColumn(name, (value, take) => eachMember(value, name, take), keepsTexts);
  }
  const form = 'list of texts or null';
  const reason = unreadType(name, type);
  return ofBrought({ feature: feature.name, expression: null, form, reason }, (members, take) => {
    if (members === null) return;
    if (!Array.isArray(members)) throw wrongBroughtValue(feature.name, form);
    for (const member of members as readonly unknown[]) {
      if (member !== null && typeof member !== 'string')
        throw wrongBroughtValue(feature.name, form);
      if (!take(member)) return;
    }
  });
}

export function numberSource(
  feature: Feature<'number'>,
  columns: ColumnTypes,
): FeatureSource<ReadNumber> {
  const { name: featureName, expression } = feature;
  if (expression !== undefined) return numberOfExpression(feature, expression, columns);
  const name = feature.column ?? featureName;
  const type = typeOfColumn(columns, name);
  const textOf = textOfColumn(type);
  if (textOf === null) return broughtNumber(feature, null, unreadType(name, type));
  const read = numberOfColumn(type, textOf, name);
  const reject = (value: unknown, expected: string) =>
    rejectedRow(
      foundInColumn(name, textOf(value, name), expected),
      `correct the value of "${name}"`,
    );
  return ofColumn(name, judgedNumber(feature, read, reject), isOfTexts(type));
}

function numberOfExpression(
  feature: Feature<'number'>,
  expression: string,
  columns: ColumnTypes,
): FeatureSource<ReadNumber> {
  const compiled = compileExpression(expression, columns);
  if (!compiled.isComputed) return broughtNumber(feature, expression, compiled.reason);
  const { type, evaluate } = compiled;
  if (type !== 'VARCHAR' && type !== 'BOOLEAN' && !isNumeric(type))
    return broughtNumber(feature, expression, `its type is ${type}, which is not a number`);
  const read: ReadMaybeNumber = (row) => {
    // `ofRow` picks nothing else.
    const value = evaluate(row as RawRow);
    if (typeof value === 'string') return doubleOfText(value) ?? NaN;
    return value === null ? null : Number(value);
  };
  const what = `the expression of the feature "${feature.name}" does not give`;
  const cure = 'correct the values of the columns that the expression names';
  return ofRow(
    judgedNumber(feature, read, (_row, expected) => rejectedRow(`${what} ${expected}`, cure)),
  );
}

/** Null where there is no value; NaN where there is one that is not a number. */
type ReadMaybeNumber = (picked: unknown) => number | null;

function numberOfColumn(type: ColumnType, textOf: TextOfValue, name: string): ReadMaybeNumber {
  // A number survives the way through the text that `prepare` reads; as text, -0 is written 0.
  const isText = type.log === 'text';
  const isPlain = isText || type.type === 'DOUBLE';
  return (value) => {
    if (isPlain && typeof value === 'number') return isText ? value + 0 : value;
    const text = textOf(value, name);
    return text === null || text === '' ? null : (doubleOfText(text) ?? NaN);
  };
}

function broughtNumber(
  feature: Feature<'number'>,
  expression: string | null,
  reason: string,
): FeatureSource<ReadNumber> {
  const form = 'number or null';
  const read: ReadMaybeNumber = (value) => {
    if (value === null || typeof value === 'number') return value;
    throw wrongBroughtValue(feature.name, form);
  };
  return ofBrought(
    { feature: feature.name, expression, form, reason },
    judgedNumber(feature, read, (_value, expected) =>
      rejectedRow(
        `the value brought for the feature "${feature.name}" is not ${expected}`,
        `bring ${expected}`,
      ),
    ),
  );
}

const STORED_MAX = Number(STORED_SIZE_MAX);

/** Refuses what `prepare` refuses, and puts `missing` in the place of no value. */
function judgedNumber(
  { missing }: Feature<'number'>,
  read: ReadMaybeNumber,
  rejectionOf: (picked: unknown, expected: string) => QianmoError,
): ReadNumber {
  return (picked) => {
    const value = read(picked);
    if (value === null) {
      if (missing !== undefined) return missing;
      throw rejectionOf(picked, 'a number');
    }
    if (!Number.isFinite(value)) throw rejectionOf(picked, 'a number');
    if (Math.abs(value) > STORED_MAX)
      throw rejectionOf(picked, `a number within ${STORED_SIZE_MAX} of 0`);
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
