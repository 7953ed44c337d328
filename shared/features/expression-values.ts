/** Types and values of expressions, as functions of a row that have the results of DuckDB. */

import {
  doubleOfText,
  doubleText,
  wholeNumberOf,
  type RawRow,
  type WholeNumber,
} from './encoding-rules.js';

/**
 * DATE is a TIMESTAMP at midnight here, which is why neither is a result. DECIMAL is the type of a written number with a
 * point, which becomes a DOUBLE beside one. NULL is the type of a bare NULL, which fits every other.
 */
export type ValueType =
  'BOOLEAN' | 'INTEGER' | 'BIGINT' | 'DOUBLE' | 'VARCHAR' | 'TIMESTAMP' | 'DECIMAL' | 'NULL';

/** TIMESTAMP counts microseconds since 1970-01-01 in UTC, as a `number`. */
export type Value = boolean | WholeNumber | string | null;

export interface Bound {
  readonly type: ValueType;
  /** @throws SqlFailure where DuckDB fails on the row. */
  readonly evaluate: (row: RawRow) => Value;
  /** A text or a number that is written in the expression. */
  readonly written?: string;
}

/** The expression is not of the subset; the message says why. */
export class OutsideSubset extends Error {}

/** DuckDB fails on the row, so that the whole result is null. */
class SqlFailure extends Error {}

const FAILURE = new SqlFailure('the expression fails on this row');

function failRow(): never {
  throw FAILURE;
}

export function outside(reason: string): never {
  throw new OutsideSubset(reason);
}

/** The operation of values that the binder has checked: null where one of them is. */
export function strict(
  type: ValueType,
  operands: readonly Bound[],
  apply: (...values: never[]) => Value,
): Bound {
  return {
    type,
    evaluate: (row) => {
      const values = operands.map(({ evaluate }) => evaluate(row));
      // They have the types of the operands, which are checked where they are bound.
      return values.includes(null) ? null : apply(...(values as never[]));
    },
  };
}

export function isWhole({ type }: Bound): boolean {
  return type === 'INTEGER' || type === 'BIGINT';
}

export function isNumeric(bound: Bound): boolean {
  return isWhole(bound) || bound.type === 'DOUBLE';
}

const LIMIT_BY_TYPE: Readonly<Record<string, bigint>> = { INTEGER: 2n ** 31n, BIGINT: 2n ** 63n };

/** A whole number of the type. @throws SqlFailure where it overflows. */
export function fitting(type: ValueType, value: WholeNumber): WholeNumber {
  const limit = LIMIT_BY_TYPE[type] ?? 0n;
  return value >= -limit && value < limit ? value : failRow();
}

/** Below 0, 0 or above 0. NaN is equal to itself and above all numbers; texts have the order of their code points. */
export function compareValues(a: Exclude<Value, null>, b: Exclude<Value, null>): number {
  if (typeof a === 'string' && typeof b === 'string') return compareTexts(a, b);
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function compareTexts(a: string, b: string): number {
  const end = Math.min(a.length, b.length);
  for (let index = 0; index < end; index += 1) {
    const left = a.charCodeAt(index);
    const right = b.charCodeAt(index);
    if (left !== right) return rankOf(left) - rankOf(right);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above all others. */
function rankOf(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

/** Null where DuckDB fails. */
export function orNull(work: () => Value): Value {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof SqlFailure) return null;
    throw cause;
  }
}

export function castTo(type: ValueType, bound: Bound): Bound {
  const from = bound.type;
  if (from === type) return bound;
  if (from === 'NULL') return { type, evaluate: bound.evaluate };
  const converted = (convert: (value: never) => Value): Bound => strict(type, [bound], convert);
  if (type === 'VARCHAR' && from === 'DOUBLE') return converted(doubleText);
  if (type === 'VARCHAR' && (isWhole(bound) || from === 'BOOLEAN')) return converted(String);
  if (type === 'DOUBLE' && from === 'VARCHAR')
    return converted((text: string) => doubleOfText(text) ?? failRow());
  if (type === 'DOUBLE' && (isWhole(bound) || from === 'BOOLEAN' || from === 'DECIMAL'))
    return converted(Number);
  if (type === 'INTEGER' || type === 'BIGINT') {
    if (isWhole(bound)) return converted((value: WholeNumber) => fitting(type, value));
    if (from === 'BOOLEAN') return converted(Number);
    if (from === 'DOUBLE') return converted((value: number) => fitting(type, wholeOfDouble(value)));
  }
  return outside(`a cast of ${from} to ${type} is not of the subset`);
}

/** Halves go to the even neighbor. */
function wholeOfDouble(value: number): WholeNumber {
  if (!Number.isFinite(value)) return failRow();
  const floor = Math.floor(value);
  const rest = value - floor;
  const isUp = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  return wholeNumberOf(BigInt(isUp ? floor + 1 : floor));
}

/** Casts values to the type that holds them all. @throws OutsideSubset where there is none. */
export function unified(bounds: readonly Bound[]): { type: ValueType; operands: Bound[] } {
  const type = bounds.reduce<ValueType>(
    (common, { type: other }) => widerOf(common, other),
    'NULL',
  );
  if (type === 'DECIMAL') outside('numbers with a point alone: write 0.5::DOUBLE');
  return { type, operands: bounds.map((bound) => castTo(type, bound)) };
}

function widerOf(common: ValueType, other: ValueType): ValueType {
  if (common === other || other === 'NULL') return common;
  if (common === 'NULL') return other;
  const types = [common, other];
  if (types.includes('DOUBLE') && types.some((type) => /^(INTEGER|BIGINT|DECIMAL)$/.test(type)))
    return 'DOUBLE';
  if (types.includes('INTEGER') && types.includes('BIGINT')) return 'BIGINT';
  if (types.includes('DECIMAL')) outside('a number with a point beside none: write 0.5::DOUBLE');
  return outside(`values of the types ${common} and ${other} side by side: write a CAST`);
}

interface SqlFunction {
  readonly argCounts: readonly [min: number, max: number];
  /** @throws OutsideSubset where an argument has a type that is not of the subset. */
  readonly bind: (args: readonly Bound[]) => Bound;
}

const NULL_BOUND: Bound = { type: 'NULL', evaluate: () => null };

function one(bind: (arg: Bound) => Bound): SqlFunction {
  return { argCounts: [1, 1], bind: ([arg = NULL_BOUND]) => bind(arg) };
}

function required(type: ValueType, arg: Bound): Bound {
  if (arg.type === type || arg.type === 'NULL' || (type === 'BIGINT' && isWhole(arg))) return arg;
  return outside(`a value of the type ${arg.type} where ${type} is expected: write a CAST`);
}

/** A function of numbers. Whole numbers become DOUBLE, as DuckDB has it. */
function ofDouble(apply: (value: number) => number): SqlFunction {
  return one((arg) => {
    if (!isNumeric(arg)) return outside(`a number is expected, not ${arg.type}`);
    return strict('DOUBLE', [castTo('DOUBLE', arg)], apply);
  });
}

/** Halves go away from zero. */
function roundHalfUp(value: number): number {
  const rounded = Math.round(Math.abs(value));
  return value < 0 || Object.is(value, -0) ? -rounded : rounded;
}

/** `round(x, n)`: scaled by a power of ten, rounded, and scaled back. */
function rounded([value = NULL_BOUND, decimals]: readonly Bound[]): Bound {
  if (decimals === undefined) {
    if (isWhole(value)) return value;
    return strict('DOUBLE', [required('DOUBLE', value)], roundHalfUp);
  }
  if (decimals.written === undefined || !isWhole(decimals) || Number(decimals.written) > 22)
    return outside('round to a number of decimals that is not written, or beyond 22');
  const power = Number(`1e${decimals.written}`);
  return strict('DOUBLE', [required('DOUBLE', value)], (number: number) => {
    const scaled = roundHalfUp(number * power) / power;
    return Number.isFinite(scaled) ? scaled : number;
  });
}

function absolute(arg: Bound): Bound {
  if (!isWhole(arg)) return strict('DOUBLE', [required('DOUBLE', arg)], Math.abs);
  return strict(arg.type, [arg], (value: WholeNumber) =>
    fitting(arg.type, value < 0 ? -value : value),
  );
}

/** The value that comes last in the order of `direction`, of those that are not null. */
function extreme(direction: 1 | -1): SqlFunction {
  return {
    argCounts: [1, 64],
    bind: (args) => {
      const { type, operands } = unified(args);
      const evaluate: Bound['evaluate'] = (row) => {
        let best: Value = null;
        for (const operand of operands) {
          const value = operand.evaluate(row);
          if (value === null) continue;
          if (best === null || direction * compareValues(value, best) > 0) best = value;
        }
        return best;
      };
      return { type, evaluate };
    },
  };
}

/** The first value that is not null. */
function coalesced(args: readonly Bound[]): Bound {
  const { type, operands } = unified(args);
  return {
    type,
    evaluate: (row) => {
      for (const { evaluate } of operands) {
        const value = evaluate(row);
        if (value !== null) return value;
      }
      return null;
    },
  };
}

/** The result of the first condition that holds. */
export function caseOf(
  branches: readonly { readonly condition: Bound; readonly result: Bound }[],
  otherwise: Bound,
): Bound {
  const conditions = branches.map(({ condition }) => required('BOOLEAN', condition));
  const { type, operands } = unified([...branches.map(({ result }) => result), otherwise]);
  return {
    type,
    evaluate: (row) => {
      const found = conditions.findIndex(({ evaluate }) => evaluate(row) === true);
      return operands.at(found)?.evaluate(row) ?? null;
    },
  };
}

function nullIf([first = NULL_BOUND, second = NULL_BOUND]: readonly Bound[]): Bound {
  const { operands } = unified([first, second]);
  return {
    type: first.type,
    evaluate: (row) => {
      const [a = null, b = null] = operands.map(({ evaluate }) => evaluate(row));
      return a !== null && b !== null && compareValues(a, b) === 0 ? null : first.evaluate(row);
    },
  };
}

function ofTexts(
  type: ValueType,
  argCount: number,
  apply: (...texts: readonly string[]) => Value,
): SqlFunction {
  return {
    argCounts: [argCount, argCount],
    bind: (args) =>
      strict(
        type,
        args.map((arg) => required('VARCHAR', arg)),
        apply,
      ),
  };
}

/** Letter case of each character by itself, as DuckDB has it: no letter becomes several. */
function eachLetter(convert: (letter: string) => string): SqlFunction {
  return ofTexts('VARCHAR', 1, (text = '') =>
    Array.from(text, (letter) => {
      const converted = convert(letter);
      return Array.from(converted).length === 1 ? converted : letter;
    }).join(''),
  );
}

const LOWER = eachLetter((letter) => (letter === 'İ' ? 'i' : letter.toLowerCase()));
const UPPER = eachLetter((letter) => (letter === 'ß' ? 'ẞ' : letter.toUpperCase()));
const LENGTH = ofTexts('BIGINT', 1, (text = '') => Array.from(text).length);

/** Counted in code points, from 1. DuckDB has two results for other than written, positive numbers. */
const SUBSTRING: SqlFunction = {
  argCounts: [2, 3],
  bind: ([text = NULL_BOUND, ...counts]) => {
    const [start = 0, length = Infinity] = counts.map((count) =>
      isWhole(count) && count.written !== undefined
        ? Number(count.written)
        : outside('substr with a start or a length that is not a written number'),
    );
    if (start < 1) return outside('substr with a start below 1');
    return strict('VARCHAR', [required('VARCHAR', text)], (value: string) =>
      Array.from(value)
        .slice(start - 1, start - 1 + length)
        .join(''),
    );
  },
};

const LEFT: SqlFunction = {
  argCounts: [2, 2],
  bind: ([text = NULL_BOUND, count = NULL_BOUND]) =>
    count.written === undefined
      ? outside('left with a number of characters that is not written')
      : SUBSTRING.bind([text, { ...count, type: 'INTEGER', written: '1' }, count]),
};

/** Spaces of all kinds, and nothing else. */
const SPACES = String.raw`[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]*`;

function trim(pattern: string): SqlFunction {
  const ends = new RegExp(pattern, 'g');
  return ofTexts('VARCHAR', 1, (text = '') => text.replace(ends, ''));
}

/** The part at `index`, from 1, or from the end where it is negative; empty where there is none. */
function partOf(text: string, separator: string, index: WholeNumber): string {
  const parts = separator === '' ? Array.from(text) : text.split(separator);
  const place = Number(index);
  return place === 0 ? '' : (parts.at(place > 0 ? place - 1 : place) ?? '');
}

/** `||`: null where one is null; one of the two must be a text. */
export function joined(pair: readonly Bound[]): Bound {
  if (!pair.some(({ type }) => type === 'VARCHAR')) return outside('|| without a text');
  const texts = pair.map((arg) => castTo('VARCHAR', arg));
  return strict('VARCHAR', texts, (left: string, right: string) => left + right);
}

/** Joins the texts of values that are not null. */
function concatenated(args: readonly Bound[]): Bound {
  const texts = args.map((arg) => castTo('VARCHAR', arg).evaluate);
  return {
    type: 'VARCHAR',
    evaluate: (row) => texts.map((evaluate) => evaluate(row) ?? '').join(''),
  };
}

const DAY_MS = 86_400_000;

const PARTS: Readonly<Record<string, (date: Date) => number>> = {
  year: (date) => date.getUTCFullYear(),
  quarter: (date) => Math.floor(date.getUTCMonth() / 3) + 1,
  month: (date) => date.getUTCMonth() + 1,
  week: isoWeek,
  day: (date) => date.getUTCDate(),
  dayofweek: (date) => date.getUTCDay(),
  weekday: (date) => date.getUTCDay(),
  isodow: (date) => date.getUTCDay() || 7,
  hour: (date) => date.getUTCHours(),
  minute: (date) => date.getUTCMinutes(),
  second: (date) => date.getUTCSeconds(),
};

/** The week of the year that has its Thursday. */
function isoWeek(date: Date): number {
  const thursday = new Date(date.getTime() + (4 - (date.getUTCDay() || 7)) * DAY_MS);
  const newYear = new Date(0).setUTCFullYear(thursday.getUTCFullYear(), 0, 1);
  return Math.floor((thursday.getTime() - newYear) / DAY_MS / 7) + 1;
}

export function partOfMoment(name: string, moment: Bound): Bound {
  const part = name.toLowerCase();
  const partOfDate =
    PARTS[part === 'dow' ? 'dayofweek' : part] ??
    outside(`the part "${name}" of a date is not of the subset`);
  return strict('BIGINT', [required('TIMESTAMP', moment)], (micros: number) =>
    partOfDate(new Date(Math.floor(micros / 1000))),
  );
}

const DATE_PART: SqlFunction = {
  argCounts: [2, 2],
  bind: ([part = NULL_BOUND, moment = NULL_BOUND]) =>
    part.type === 'VARCHAR' && part.written !== undefined
      ? partOfMoment(part.written, moment)
      : outside('a part of a date that is not written as a text'),
};

/** The last moment of a `Date`. */
const SECONDS_MAX = 8.64e12;

/** Not a result of an expression, so that its time zone does not show. */
function toTimestamp(arg: Bound): Bound {
  const seconds = castTo('DOUBLE', isNumeric(arg) ? arg : outside('to_timestamp of no number'));
  return strict('TIMESTAMP', [seconds], (value: number) =>
    Math.abs(value) < SECONDS_MAX ? Math.round(value * 1_000_000) : failRow(),
  );
}

const FIELDS: Readonly<Record<string, string>> = {
  ...{ Y: 'year', m: 'month', d: 'day', H: 'hour', M: 'minute', S: 'second' },
};

/** Digits are read greedily and never given back; spaces in the form stand for any number of them. */
function formPattern(form: string): RegExp {
  const seen = new Set<string>();
  const pattern = form.replaceAll(
    /%(-?)(.?)|\s+|[^]/gu,
    (part: string, dash: string, letter: string) => {
      if (/^\s/.test(part)) return String.raw`\s+`;
      if (!part.startsWith('%')) return part.replace(/[\\^$.*+?()[\]{}|/]/, String.raw`\$&`);
      const field = FIELDS[letter];
      if (field === undefined || seen.has(letter) || (dash !== '' && letter === 'Y'))
        return outside(`"${part}" in a form of strptime`);
      seen.add(letter);
      return `(?=(?<${field}>[0-9]{1,${letter === 'Y' ? 4 : 2}}))\\k<${field}>`;
    },
  );
  return new RegExp(String.raw`^\s*${pattern}\s*$`, 'u');
}

/** `strptime(text, form)`; the form has no date from 1900-01-01 where it lacks parts. */
function parsedMoment([text = NULL_BOUND, form = NULL_BOUND]: readonly Bound[]): Bound {
  if (form.type !== 'VARCHAR' || form.written === undefined)
    return outside('strptime with a form that is not written as a text');
  const pattern = formPattern(form.written);
  return strict('TIMESTAMP', [required('VARCHAR', text)], (value: string) => {
    const found = pattern.exec(value)?.groups;
    if (found === undefined) return failRow();
    const { year = 1900, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = found;
    const numbers = [year, month, day, hour, minute, second].map(Number);
    const [y = 0, m = 0, ...rest] = numbers;
    const date = new Date(0);
    date.setUTCFullYear(y, m - 1, rest[0]);
    date.setUTCHours(rest[1] ?? 0, rest[2], rest[3]);
    const isSame = [date.getUTCMonth() + 1, date.getUTCDate(), date.getUTCHours()].every(
      (part, index) => part === numbers[index + 1],
    );
    const micros = date.getTime() * 1000;
    return isSame && Number(minute) < 60 && Number(second) < 60 ? micros : failRow();
  });
}

const FUNCTIONS: ReadonlyMap<string, SqlFunction> = new Map<string, SqlFunction>([
  ['coalesce', { argCounts: [1, 64], bind: coalesced }],
  ['ifnull', { argCounts: [2, 2], bind: coalesced }],
  ['nullif', { argCounts: [2, 2], bind: nullIf }],
  ['greatest', extreme(1)],
  ['least', extreme(-1)],
  [
    'if',
    {
      argCounts: [3, 3],
      bind: ([condition = NULL_BOUND, result = NULL_BOUND, otherwise = NULL_BOUND]) =>
        caseOf([{ condition, result }], otherwise),
    },
  ],
  ['floor', ofDouble(Math.floor)],
  ['ceil', ofDouble(Math.ceil)],
  ['round', { argCounts: [1, 2], bind: rounded }],
  ['abs', one(absolute)],
  ['sqrt', ofDouble((value) => (value < 0 ? failRow() : Math.sqrt(value)))],
  ['lower', LOWER],
  ['upper', UPPER],
  ['length', LENGTH],
  ['substr', SUBSTRING],
  ['substring', SUBSTRING],
  ['left', LEFT],
  ['trim', trim(`^${SPACES}|${SPACES}$`)],
  ['ltrim', trim(`^${SPACES}`)],
  ['rtrim', trim(`${SPACES}$`)],
  ['starts_with', ofTexts('BOOLEAN', 2, (text = '', start = '') => text.startsWith(start))],
  ['ends_with', ofTexts('BOOLEAN', 2, (text = '', end = '') => text.endsWith(end))],
  ['contains', ofTexts('BOOLEAN', 2, (text = '', part = '') => text.includes(part))],
  [
    'replace',
    ofTexts('VARCHAR', 3, (text = '', from = '', to = '') =>
      from === '' ? text : text.replaceAll(from, () => to),
    ),
  ],
  [
    'split_part',
    {
      argCounts: [3, 3],
      bind: ([text = NULL_BOUND, separator = NULL_BOUND, index = NULL_BOUND]) =>
        strict(
          'VARCHAR',
          [required('VARCHAR', text), required('VARCHAR', separator), required('BIGINT', index)],
          partOf,
        ),
    },
  ],
  ['concat', { argCounts: [1, 64], bind: concatenated }],
  ...Object.keys(PARTS).map((part) => [part, one((moment) => partOfMoment(part, moment))] as const),
  ['date_part', DATE_PART],
  ['to_timestamp', one(toTimestamp)],
  ['strptime', { argCounts: [2, 2], bind: parsedMoment }],
]);

export function bindCall(name: string, args: readonly Bound[]): Bound {
  const found = FUNCTIONS.get(name) ?? outside(`the function ${name} is not of the subset`);
  const [min, max] = found.argCounts;
  if (args.length < min || args.length > max)
    return outside(`${name} with ${args.length} arguments is not of the subset`);
  return found.bind(args);
}
