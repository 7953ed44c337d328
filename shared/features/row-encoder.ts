/**
 * The encoder of raw rows into the ids and numbers that `prepare` stores for them, whole rows or single
 * features. Built once from the config's features, the store's manifest and its dictionaries.
 */

import type { FeatureConfig } from '../config/data-config.js';
import { type QianmoError, errorOf } from '../base/errors.js';
import { type EncodedFeature, unseenBucketsOf } from '../tasks/store-manifest.js';
import {
  type TargetEncoding,
  placeOfValue,
  targetEncodingNameOf,
} from '../tasks/target-encoding.js';
import {
  idOfValueBy,
  type TextIds,
  type IdOfValue,
  type PackedDictionary,
} from './packed-dictionary.js';
import {
  EMPTY_PLACE_ID,
  FIRST_ID,
  LOG_BUCKETS_PER_SIGN,
  STORED_SIZE_MAX,
  UNKNOWN_ID,
  JSON_LIST_START,
  doubleOfSqlLiteral,
  type ColumnTypes,
  type RawRow,
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
} from './encoding-rules.js';
import { compileExpression } from './expression.js';
import { castTo, isNumeric } from './expression-values.js';
import { at, int32At } from '../base/arrays.js';

/** Writes the id, the number, or the places of the bag from `at` on. */
type EncodePicked = (picked: unknown, target: Int32Array | Float32Array, at: number) => void;

const STORED_MAX = Number(STORED_SIZE_MAX);

function categoryEncoder(read: ReadText, idOf: IdOfValue): EncodePicked {
  return (picked, target, at) => {
    const text = read(picked);
    const isEmpty = text === null || text === '';
    target[at] = isEmpty ? UNKNOWN_ID : idOf(text);
  };
}

function bagEncoder(read: ReadMembers, idOf: IdOfValue, lengthMax: number): EncodePicked {
  let ids: Int32Array | Float32Array = new Int32Array(0);
  let next = 0;
  let end = 0;
  const take = (member: string | null): boolean => {
    if (member === null || member === '') return true;
    ids[next] = idOf(member);
    next += 1;
    return next < end;
  };
  return (picked, target, at) => {
    ids = target;
    next = at;
    end = at + lengthMax;
    read(picked, take);
    target.fill(EMPTY_PLACE_ID, next, end);
  };
}

function logBucketEncoder(read: ReadNumber): EncodePicked {
  return (picked, target, at) => {
    const value = read(picked);
    const bucket = Math.min(Math.floor(Math.log2(1 + Math.abs(value))), LOG_BUCKETS_PER_SIGN - 1);
    const ofSign = value < 0 ? LOG_BUCKETS_PER_SIGN : 0;
    target[at] = FIRST_ID + bucket + ofSign;
  };
}

function numberEncoder(
  feature: Extract<EncodedFeature, { kind: 'number' }>,
  read: ReadNumber,
): EncodePicked {
  // The SQL holds both as literals.
  const mean = doubleOfSqlLiteral(String(feature.mean));
  const deviation = doubleOfSqlLiteral(String(feature.deviation));
  const isLogarithmic = feature.scale === 'log-standard';
  return (picked, target, at) => {
    const value = read(picked);
    const scaled = ((isLogarithmic ? signedLogarithm(value) : value) - mean) / deviation;
    target[at] = Math.min(Math.max(scaled, -STORED_MAX), STORED_MAX);
  };
}

function signedLogarithm(value: number): number {
  const size = Math.log(1 + Math.abs(value));
  if (value > 0) return size;
  return value < 0 ? -size : 0;
}

interface RowEncoderSource {
  /** `data.features` of the config that the store was prepared with. */
  readonly features: readonly FeatureConfig[];
  /** `features` of the store's manifest. */
  readonly encodedFeatures: readonly EncodedFeature[];
  /** By name of each feature that is encoded by dictionary. */
  readonly dictionaries: ReadonlyMap<string, PackedDictionary>;
  /** By `targetEncodingNameOf`; they may be left out where there are none. */
  readonly targetEncodings?: ReadonlyMap<string, TargetEncoding>;
  /** The types of the logs' columns; a column that is not listed is text. */
  readonly columns: ColumnTypes;
}

/** Encodes one feature, also of values that lie in a column of their own. */
export interface FeatureEncoder extends Pick<FeatureSource<unknown>, 'column' | 'pick'> {
  readonly name: string;
  readonly kind: EncodedFeature['kind'];
  /** Places in a row of the encoded feature: 1, or those of a bag. */
  readonly placeCount: number;
  /** Ids of the texts of `column`, or of its lists, as they are; null if they are read otherwise. */
  readonly textIds: TextIds | null;
  /** The dictionary of those ids where it alone has them; null otherwise. */
  readonly dictionary: PackedDictionary | null;
  /** Of what `pick` gives. */
  readonly encode: EncodePicked;
}

export interface RowEncoder {
  /** In the order of the manifest. */
  readonly features: readonly FeatureEncoder[];
  /** Numbers that follow from ids, and come behind the other numbers. */
  readonly derived: readonly DerivedNumber[];
  /** The features whose values the caller must bring with every row; most often none. */
  readonly broughtValues: readonly BroughtValue[];
  /** Room for rows, to be encoded into and used again. */
  allocate(rowCount: number): EncodedRows;
  /**
   * Encodes a row to its place among `rows`.
   * @throws QianmoError of kind `data` when the row lacks a column, or `prepare` would reject it.
   */
  encodeInto(rows: EncodedRows, at: number, row: RawRow, brought?: BroughtValues): void;
  /** One row alone. */
  encode(row: RawRow, brought?: BroughtValues): EncodedRows;
}

const NOTHING_BROUGHT: BroughtValues = {};

/** @throws QianmoError of kind `data` when config, manifest and dictionaries do not fit together. */
export function rowEncoderOf(source: RowEncoderSource): RowEncoder {
  const { features, encodedFeatures } = source;
  const derived = derivedNumbersOf(encodedFeatures, source.targetEncodings ?? new Map());
  const ownCount = encodedFeatures.length - derived.length;
  if (features.length !== ownCount)
    throw unfit('features', `${ownCount} as in the manifest`, `${features.length}`);
  const encoders: FeatureEncoder[] = [];
  const broughtValues: BroughtValue[] = [];
  for (const [index, feature] of features.entries()) {
    const encoded = encodedFeatures[index];
    if (encoded?.name !== feature.name)
      throw unfit(`features.${index}`, `"${encoded?.name}"`, `"${feature.name}"`);
    const { encoder, brought } = featureEncoderOf(feature, encoded, source);
    encoders.push(encoder);
    if (brought !== null) broughtValues.push(brought);
  }
  const write = rowWriterOf(encoders);
  const derive = derivedWriterOf(encodedFeatures, derived);
  const encodeInto = (
    rows: EncodedRows,
    at: number,
    row: RawRow,
    brought = NOTHING_BROUGHT,
  ): void => {
    write(rows, at, row, brought);
    derive(rows, at);
  };
  const allocate = (rowCount: number): EncodedRows =>
    allocateEncodedRows(encodedFeatures, rowCount);
  return {
    features: encoders,
    derived,
    broughtValues,
    allocate,
    encodeInto,
    encode(row, brought) {
      const rows = allocate(1);
      encodeInto(rows, 0, row, brought);
      return rows;
    },
  };
}

function rowWriterOf(
  encoders: readonly FeatureEncoder[],
): (rows: EncodedRows, at: number, row: RawRow, brought: BroughtValues) => void {
  const placeByKind = { category: 0, bag: 0, number: 0 };
  const placed = encoders.map(({ kind, placeCount, pick, encode }) => {
    const place = placeByKind[kind];
    placeByKind[kind] += 1;
    const targetOf = (rows: EncodedRows): Int32Array | Float32Array => {
      if (kind === 'number') return valuesAt(rows.numbers, place);
      return valuesAt(kind === 'bag' ? rows.bagIds : rows.categoryIds, place);
    };
    return { placeCount, pick, encode, targetOf };
  });
  return (rows, at, row, brought) => {
    for (const { placeCount, pick, encode, targetOf } of placed)
      encode(pick(row, brought), targetOf(rows), at * placeCount);
  };
}

interface SourcedEncoder {
  readonly encoder: FeatureEncoder;
  readonly brought: BroughtValue | null;
}

function featureEncoderOf(
  feature: FeatureConfig,
  encoded: EncodedFeature,
  { dictionaries, columns }: RowEncoderSource,
): SourcedEncoder {
  const { name, kind } = encoded;
  const placeCount = kind === 'bag' ? encoded.lengthMax : 1;
  const sourced = (
    { column, pick, keepsTexts, brought }: FeatureSource<unknown>,
    encode: EncodePicked,
    ids: TextIds | null = null,
  ): SourcedEncoder => {
    const textIds = keepsTexts ? ids : null;
    // A client that sends ids cannot know those of texts that the dictionary does not hold.
    const dictionary = textIds?.buckets === 0 ? textIds.dictionary : null;
    const encoder = { name, kind, placeCount, column, pick, encode, textIds, dictionary };
    return { encoder, brought };
  };
  switch (feature.kind) {
    case 'category': {
      if (encoded.kind !== 'category' || encoded.encoding.by === 'log-bucket') break;
      const source = categorySource(feature, columns);
      const ids = textIdsOf(name, encoded.encoding, dictionaries);
      return sourced(source, categoryEncoder(source.read, idOfValueBy(ids)), ids);
    }
    case 'bag': {
      if (encoded.kind !== 'bag' || encoded.lengthMax !== feature.lengthMax) break;
      const source = bagSource(feature, columns);
      const ids = textIdsOf(name, encoded.encoding, dictionaries);
      return sourced(source, bagEncoder(source.read, idOfValueBy(ids), placeCount), ids);
    }
    case 'number': {
      const source = numberSource(feature, columns);
      if (encoded.kind === 'number') {
        if (encoded.scale !== feature.scale) break;
        return sourced(source, numberEncoder(encoded, source.read));
      }
      if (encoded.kind !== 'category' || encoded.encoding.by !== 'log-bucket') break;
      return sourced(source, logBucketEncoder(source.read));
    }
  }
  throw unfit(`feature "${feature.name}"`, JSON.stringify(encoded), JSON.stringify(feature));
}

interface DictionaryEncoding {
  readonly by: 'dictionary';
  readonly unseenBuckets?: number | undefined;
}

function textIdsOf(
  featureName: string,
  encoding: DictionaryEncoding | { readonly by: 'hash'; readonly buckets: number },
  dictionaries: ReadonlyMap<string, PackedDictionary>,
): TextIds {
  if (encoding.by === 'hash') return { dictionary: null, buckets: encoding.buckets };
  const dictionary = dictionaries.get(featureName);
  if (dictionary === undefined)
    throw unfit(`feature "${featureName}"`, 'its dictionary of the store', 'none');
  const { unseenBuckets = 0 } = encoding;
  // The id 0 is that of no value.
  return { dictionary, buckets: unseenBuckets === 0 ? 0 : unseenBuckets + 1 };
}

function unfit(where: string, expected: string, found: string): QianmoError {
  return errorOf('data', 'the config and the task store do not have the same features', {
    where,
    expected,
    found,
    cure: 'give the config that the store was prepared with, and its dictionaries',
  });
}

/** Values that the caller brings, by feature name. */
type BroughtValues = Readonly<Record<string, unknown>>;

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
type ReadText = (picked: unknown) => string | null;
/** Finite and within the size that the store holds. */
type ReadNumber = (picked: unknown) => number;
/** Hands over members, empty ones included, until `take` returns false. */
type ReadMembers = (picked: unknown, take: (member: string | null) => boolean) => void;

/** A feature whose value the caller must bring, because the row encoder cannot compute it. */
interface BroughtValue {
  readonly feature: string;
  /** The SQL that `prepare` computes; null where it reads a column. */
  readonly expression: string | null;
  /** The form of the value; a text is what DuckDB prints of it. */
  readonly form: 'text or null' | 'list of texts or null' | 'number or null';
  readonly reason: string;
}

/** The source of a feature, and how it is read. */
interface FeatureSource<Read> {
  /** The column, or the name of a brought value, that alone decides; null where the whole row does. */
  readonly column: string | null;
  /** The part of a row that decides: the value of `column`, or the row. @throws if the row lacks it. */
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

function categorySource(
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

function bagSource(feature: Feature<'bag'>, columns: ColumnTypes): FeatureSource<ReadMembers> {
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

function numberSource(feature: Feature<'number'>, columns: ColumnTypes): FeatureSource<ReadNumber> {
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
    throw errorOf('data', reasonOf(picked, expected), {
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
  throw errorOf('data', `no value was brought for the feature "${feature}"`, {
    expected: form,
    cure: 'bring a value for every feature that the encoder lists in broughtValues',
  });
}

function wrongBroughtValue(feature: string, form: string): QianmoError {
  return errorOf('data', `the value brought for the feature "${feature}" has the wrong form`, {
    expected: form,
    cure: 'bring a value of that form',
  });
}

export interface DerivedNumber {
  readonly name: string;
  /** The categories whose ids decide it, one or two. */
  readonly of: readonly string[];
  /** @param second 0 where it is of one category. */
  readonly numberOf: (first: number, second: number) => number;
}

/** @param encodings by `targetEncodingNameOf`. */
function derivedNumbersOf(
  features: readonly EncodedFeature[],
  encodings: ReadonlyMap<string, TargetEncoding>,
): DerivedNumber[] {
  return features.flatMap((feature): DerivedNumber[] => {
    if (feature.kind !== 'number' || feature.encodes === undefined) return [];
    const { name, encodes } = feature;
    const encoding = encodings.get(targetEncodingNameOf(encodes.of));
    if (encoding === undefined) throw new Error(`the target encoding of ${name} was not read`);
    const values = encodes.input === 'rate' ? encoding.rates : encoding.counts;
    const [ofFirst = 0, ofSecond = 0] = encodes.of.map((category) => {
      const encoded = features.find((each) => each.name === category);
      return encoded === undefined ? 0 : unseenBucketsOf(encoded);
    });
    // Other adgroups say of every unseen value what they say of unknown ones.
    const numberOf = (first: number, second: number): number => {
      const place = placeOfValue(
        encoding,
        first <= ofFirst ? UNKNOWN_ID : first,
        second <= ofSecond ? UNKNOWN_ID : second,
      );
      return place < 0 ? 0 : at(values, place);
    };
    return [{ name, of: encodes.of, numberOf }];
  });
}

/** Returns what writes the numbers of a row whose ids are there. */
function derivedWriterOf(
  features: readonly EncodedFeature[],
  derived: readonly DerivedNumber[],
): (rows: EncodedRows, row: number) => void {
  const namesOf = (kind: EncodedFeature['kind']): string[] =>
    features.filter((feature) => feature.kind === kind).map(({ name }) => name);
  const [categories, numbers] = [namesOf('category'), namesOf('number')];
  const placed = derived.map(({ name, of, numberOf }) => ({
    numberOf,
    place: numbers.indexOf(name),
    categories: of.map((category) => categories.indexOf(category)),
  }));
  return (rows, row) => {
    for (const { numberOf, place, categories: from } of placed) {
      const idOf = (category: number | undefined): number =>
        category === undefined ? 0 : int32At(valuesAt(rows.categoryIds, category), row);
      valuesAt(rows.numbers, place)[row] = numberOf(idOf(from[0]), idOf(from[1]));
    }
  };
}

export interface EncodedRows {
  readonly rowCount: number;
  /** By category feature, in manifest order: `[rowCount]`. */
  readonly categoryIds: readonly Int32Array[];
  /** By bag feature, in manifest order: `[rowCount, lengthMax]`, -1 in empty places. */
  readonly bagIds: readonly Int32Array[];
  /** By number feature, in manifest order: `[rowCount]`. */
  readonly numbers: readonly Float32Array[];
}

/** Rows of zeros, to be encoded into and used again. */
export function allocateEncodedRows(
  features: readonly EncodedFeature[],
  rowCount: number,
): EncodedRows {
  const ofKind = <Kind extends EncodedFeature['kind']>(kind: Kind) =>
    features.filter(
      (feature): feature is Extract<EncodedFeature, { kind: Kind }> => feature.kind === kind,
    );
  return {
    rowCount,
    categoryIds: ofKind('category').map(() => new Int32Array(rowCount)),
    bagIds: ofKind('bag').map(({ lengthMax }) => new Int32Array(rowCount * lengthMax)),
    numbers: ofKind('number').map(() => new Float32Array(rowCount)),
  };
}

/** The values of one feature. @throws Error when the rows were allocated for other features. */
function valuesAt<Values>(columns: readonly Values[], place: number): Values {
  const values = columns[place];
  if (values === undefined) throw new Error(`the encoded rows have no feature at place ${place}`);
  return values;
}
