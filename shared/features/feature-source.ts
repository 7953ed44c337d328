/** Where the value of a feature comes from: a column, an expression, or the caller. */

import { QianmoError } from '../base/errors.js';
import type { FeatureConfig } from '../config/data-config.js';
import { JSON_LIST_START, STORED_SIZE_MAX } from './encoding-rules.js';
import { compileExpression } from './expression.js';
import { castTo, isNumeric } from './expression-values.js';
import {
  columnOf,
  doubleOfText,
  doubleText,
  readerOfTyped,
  textOfColumn,
  textOfJsonValue,
  textOfTyped,
  typeOfColumn,
  wrongValue,
  type ColumnType,
  type ColumnTypes,
  type RawRow,
} from './raw-values.js';

/** Values that the caller brings, by feature name. */
export type BroughtValues = Readonly<Record<string, unknown>>;

/** Hands over the members of a bag, empty ones included, until `take` returns false. */
type EachMember = (
  value: unknown,
  columnName: string,
  take: (member: string | null) => boolean,
) => void;

/** @returns null where the column's type is not one that rows can be read in. */
function membersOfColumn(type: ColumnType, separator: string): EachMember | null {
  const element = type.log === 'typed' ? /^(.*)\[\d*\]$/.exec(type.type)?.[1] : undefined;
  const textOf = element === undefined ? textOfColumn(type) : textOfTyped(element);
  if (textOf === null) return null;
  if (element !== undefined)
    return (value, name, take) => {
      if (value === null) return;
      if (!Array.isArray(value)) throw wrongValue(name, 'a list', value);
      for (const member of value as readonly unknown[]) if (!take(textOf(member, name))) return;
    };
  return (value, name, take) => {
    const text = Array.isArray(value) ? '' : textOf(value, name);
    if (text === null) return;
    const list = type.log === 'text' ? listIn(value, text) : null;
    if (list === null) eachPart(text, separator, take);
    else for (const member of list) if (!take(textOfMember(member))) return;
  };
}

/** A JSON list in a row, or in a text of it, in which long whole numbers keep their digits and others their point. */
function listIn(value: unknown, text: string): readonly unknown[] | null {
  if (Array.isArray(value)) return value as readonly unknown[];
  if (!text.startsWith(JSON_LIST_START)) return null;
  const tokens = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
  const exact = text.replace(tokens, (token) => {
    const number = Number(token);
    const hasPoint = /[.e]/i.test(token);
    if (token.startsWith('"') || (!hasPoint && Number.isSafeInteger(number))) return token;
    return `"${hasPoint && Number.isFinite(number) ? doubleText(number) : token}"`;
  });
  try {
    const list: unknown = JSON.parse(exact);
    return Array.isArray(list) ? list : null;
  } catch {
    return null;
  }
}

/** As DuckDB's `from_json` gives the members of a list; null members are kept. */
function textOfMember(member: unknown): string | null {
  if (typeof member !== 'number' || Number.isSafeInteger(member)) return textOfJsonValue(member);
  return Number.isInteger(member) && Math.abs(member) < 1e21 ? String(member) : doubleText(member);
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
    const { evaluate } = castTo('VARCHAR', compiled);
    // `ofRow` picks nothing else, and a VARCHAR is a text.
    return ofRow((row) => evaluate(row as RawRow) as string | null);
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
  const { expression } = feature;
  if (expression !== undefined) return numberOfExpression(feature, expression, columns);
  const name = feature.column ?? feature.name;
  const type = typeOfColumn(columns, name);
  const readTyped = type.log === 'typed' ? readerOfTyped(type.type) : textOfJsonValue;
  if (readTyped === null) return broughtNumber(feature, null, unreadType(name, type));
  const read: ReadMaybeNumber = (value) => {
    const found = value === null ? null : readTyped(value, name);
    return typeof found === 'number' || typeof found === 'bigint'
      ? Number(found)
      : numberOfText(String(found ?? ''));
  };
  const source = judgedNumber(feature, read, (value, expected) => {
    const text = typeof value === 'number' ? textOfNumber(type, value) : textOfJsonValue(value);
    const found = text === null ? 'nothing' : `"${text}"`;
    return `the column "${name}" holds ${found}, expected ${expected}`;
  });
  return ofColumn(name, source, isOfTexts(type));
}

function textOfNumber(type: ColumnType, value: number): string | null {
  return type.log === 'text' ? textOfJsonValue(value) : doubleText(value);
}

/** Null for an empty text, NaN for one that is no number. */
function numberOfText(text: string): number | null {
  return text === '' ? null : (doubleOfText(text) ?? NaN);
}

function numberOfExpression(
  feature: Feature<'number'>,
  expression: string,
  columns: ColumnTypes,
): FeatureSource<ReadNumber> {
  const compiled = compileExpression(expression, columns);
  if (!compiled.isComputed) return broughtNumber(feature, expression, compiled.reason);
  const { type, evaluate } = compiled;
  if (type !== 'VARCHAR' && type !== 'BOOLEAN' && !isNumeric(compiled))
    return broughtNumber(feature, expression, `its type is ${type}, which is not a number`);
  const read: ReadMaybeNumber = (row) => {
    // `ofRow` picks nothing else.
    const value = evaluate(row as RawRow);
    if (typeof value === 'string') return doubleOfText(value) ?? NaN;
    return value === null ? null : Number(value);
  };
  const what = `the expression of the feature "${feature.name}" does not give`;
  return ofRow(judgedNumber(feature, read, (_row, expected) => `${what} ${expected}`));
}

/** Null where there is no value; NaN where there is one that is not a number. */
type ReadMaybeNumber = (picked: unknown) => number | null;

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
  const what = `the value brought for the feature "${feature.name}" is not`;
  return ofBrought(
    { feature: feature.name, expression, form, reason },
    judgedNumber(feature, read, (_value, expected) => `${what} ${expected}`),
  );
}

const STORED_MAX = Number(STORED_SIZE_MAX);

/** Refuses what `prepare` refuses, for its reasons, and puts `missing` in the place of no value. */
function judgedNumber(
  { missing }: Feature<'number'>,
  read: ReadMaybeNumber,
  reasonOf: (picked: unknown, expected: string) => string,
): ReadNumber {
  return (picked) => {
    const value = read(picked) ?? missing ?? NaN;
    if (Math.abs(value) <= STORED_MAX) return value;
    const isTooLarge = Number.isFinite(value);
    const expected = isTooLarge ? `a number within ${STORED_SIZE_MAX} of 0` : 'a number';
    throw new QianmoError({
      kind: 'data',
      what: reasonOf(picked, expected),
      cure: 'correct the value, or leave the row out',
    });
  };
}

function unreadType(name: string, type: ColumnType): string {
  const typeName = type.log === 'typed' ? type.type : 'text';
  return `the column "${name}" has the type ${typeName}, which rows are not read in`;
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
