/** Functions of texts. */

import {
  asText,
  asWhole,
  isWhole,
  ofAll,
  outside,
  unary,
  type Bound,
  type Value,
  type ValueType,
} from './bound-expression.js';
import { castTo, textOfValue } from './casts.js';
import type { FunctionOfSubset } from './function-table.js';
import { lowerCase, upperCase } from './letter-case.js';
import { leftOf, lengthOf, partOf, placeOf, rightOf, substring, trimmed } from './text-slices.js';

type Kind = 'text' | 'whole';

/** A function of texts and whole numbers that is null where an argument is. */
function strict(
  type: ValueType,
  kinds: readonly Kind[],
  apply: (...values: readonly Value[]) => Value,
): FunctionOfSubset {
  return {
    argCountMin: kinds.length,
    argCountMax: kinds.length,
    bind: (args) => {
      const operands = args.map((arg, index) => argument(arg, kinds[index] ?? 'text'));
      return ofAll(type, operands, (values) => apply(...values));
    },
  };
}

function argument(arg: Bound, kind: Kind): Bound {
  if (arg.type === 'NULL') return castTo(kind === 'text' ? 'VARCHAR' : 'BIGINT', arg);
  if (kind === 'text' ? arg.type === 'VARCHAR' : isWhole(arg.type) && arg.decimal === undefined)
    return arg;
  return outside(`an argument of the type ${arg.type} where a ${kind} is expected: write a CAST`);
}

function ofText(apply: (text: string) => Value, type: ValueType = 'VARCHAR'): FunctionOfSubset {
  return strict(type, ['text'], (text = null) => apply(asText(text)));
}

function ofTwoTexts(
  type: ValueType,
  apply: (text: string, other: string) => Value,
): FunctionOfSubset {
  return strict(type, ['text', 'text'], (text = null, other = null) =>
    apply(asText(text), asText(other)),
  );
}

function ofTextAndCount(apply: (text: string, count: Value) => Value): FunctionOfSubset {
  return strict('VARCHAR', ['text', 'whole'], (text = null, count = null) =>
    apply(asText(text), count),
  );
}

const SUBSTRING_TO_END = ofTextAndCount((text, start) => substring(text, asWhole(start)));
const SUBSTRING_LENGTH_MAX = 2 ** 31 - 1;

/**
 * A part that begins before the text, or goes backwards, is another one in DuckDB where all texts of
 * the column are ASCII: with a length, both must be written and not negative.
 */
const SUBSTRING: FunctionOfSubset = {
  argCountMin: 2,
  argCountMax: 3,
  bind: (args) => {
    const [text, start, length] = args;
    if (length === undefined || text === undefined) return SUBSTRING_TO_END.bind(args);
    const [first, count] = [start?.constant, length.constant];
    if (typeof first !== 'number' || typeof count !== 'number' || first < 0 || count < 0)
      return outside('substr with a start or a length that is not written, or negative');
    if (first > SUBSTRING_LENGTH_MAX || count > SUBSTRING_LENGTH_MAX)
      return outside('substr with a start or a length beyond INTEGER');
    return unary('VARCHAR', argument(text, 'text'), (value) =>
      substring(asText(value), first, count),
    );
  },
};

function trim(ends: 'both' | 'start' | 'end'): FunctionOfSubset {
  const ofOne = ofText((text) => trimmed(text, ends));
  const ofTwo = ofTwoTexts('VARCHAR', (text, characters) => trimmed(text, ends, characters));
  return {
    argCountMin: 1,
    argCountMax: 2,
    bind: (args) => (args.length === 1 ? ofOne : ofTwo).bind(args),
  };
}

const LENGTH = ofText(lengthOf, 'BIGINT');
const STARTS_WITH = ofTwoTexts('BOOLEAN', (text, start) => text.startsWith(start));
const ENDS_WITH = ofTwoTexts('BOOLEAN', (text, end) => text.endsWith(end));
const PLACE = ofTwoTexts('BIGINT', placeOf);

export const TEXT_FUNCTIONS: ReadonlyMap<string, FunctionOfSubset> = new Map([
  ['lower', ofText(lowerCase)],
  ['lcase', ofText(lowerCase)],
  ['upper', ofText(upperCase)],
  ['ucase', ofText(upperCase)],
  ['length', LENGTH],
  ['len', LENGTH],
  ['substr', SUBSTRING],
  ['substring', SUBSTRING],
  ['left', ofTextAndCount((text, count) => leftOf(text, asWhole(count)))],
  ['right', ofTextAndCount((text, count) => rightOf(text, asWhole(count)))],
  ['trim', trim('both')],
  ['ltrim', trim('start')],
  ['rtrim', trim('end')],
  ['starts_with', STARTS_WITH],
  ['prefix', STARTS_WITH],
  ['ends_with', ENDS_WITH],
  ['suffix', ENDS_WITH],
  ['contains', ofTwoTexts('BOOLEAN', (text, part) => text.includes(part))],
  ['strpos', PLACE],
  ['instr', PLACE],
  [
    'replace',
    strict('VARCHAR', ['text', 'text', 'text'], (text = null, from = null, to = null) =>
      from === '' ? text : asText(text).replaceAll(asText(from), () => asText(to)),
    ),
  ],
  [
    'split_part',
    strict('VARCHAR', ['text', 'text', 'whole'], (text = null, separator = null, index = null) =>
      partOf(asText(text), asText(separator), asWhole(index)),
    ),
  ],
  ['concat', { argCountMin: 1, argCountMax: 64, bind: concat }],
]);

/** Joins the texts of values that are not null. */
function concat(args: readonly Bound[]): Bound {
  const texts = args.map((arg) => castTo('VARCHAR', arg).evaluate);
  return {
    type: 'VARCHAR',
    evaluate: (row) => texts.map((evaluate) => evaluate(row) ?? '').join(''),
  };
}

/** `||`: null where one is null; one of the two must be a text. */
export function joined(left: Bound, right: Bound): Bound {
  const pair = [left, right];
  if (!pair.some(({ type }) => type === 'VARCHAR')) return outside('|| without a text');
  if (pair.some(({ decimal }) => decimal !== undefined))
    return outside('|| of a number with a point');
  return ofAll('VARCHAR', pair, (values) =>
    values.map((value, index) => textOfValue(pair[index]?.type ?? 'VARCHAR', value)).join(''),
  );
}
