/**
 * Written forms of times, such as `%d.%m.%Y %H:%M`, and texts read by them as DuckDB's `strptime` reads them: digits
 * greedily, runs of spaces as one space, and what the form does not have from 1900-01-01 00:00:00.
 */

import { QianmoError } from '../../base/errors.js';
import { dateOfDays, daysOfDate, MICROS_PER_SECOND, timestampOf } from './calendar.js';
import type { WholeNumber } from './whole-number.js';

type Field = 'year' | 'month' | 'day' | 'hour' | 'minute' | 'second' | 'half';

/** A part of a form. */
interface Specifier {
  readonly field: Field;
  readonly pattern: string;
  /** Null where the text is out of range. */
  readonly valueOf: (text: string) => number | null;
}

const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June'],
  ...['July', 'August', 'September', 'October', 'November', 'December'],
];
const NOON = 12;

function digits(field: Field, countMax: number, [min, max]: readonly [number, number]): Specifier {
  return {
    field,
    pattern: `[0-9]{1,${countMax}}`,
    valueOf: (text) => (Number(text) < min || Number(text) > max ? null : Number(text)),
  };
}

/** Names of months in any case. */
function monthName(lengthMax: number): Specifier {
  const names = MONTHS.map((name) => name.slice(0, lengthMax).toLowerCase());
  const inAnyCase = (name: string): string =>
    name.replaceAll(/./g, (letter) => `[${letter}${letter.toUpperCase()}]`);
  return {
    field: 'month',
    pattern: names.map(inAnyCase).join('|'),
    valueOf: (text) => names.indexOf(text.toLowerCase()) + 1,
  };
}

const SPECIFIERS: ReadonlyMap<string, Specifier> = new Map([
  ['Y', digits('year', 4, [0, 9999])],
  [
    'y',
    {
      ...digits('year', 2, [0, 99]),
      // Years from 1969 to 2068.
      valueOf: (text: string) => Number(text) + (Number(text) < 69 ? 2000 : 1900),
    },
  ],
  ['m', digits('month', 2, [1, 12])],
  ['b', monthName(3)],
  ['B', monthName(9)],
  ['d', digits('day', 2, [1, 31])],
  ['H', digits('hour', 2, [0, 23])],
  ['I', digits('hour', 2, [1, 12])],
  ['p', { field: 'half', pattern: '[AaPp][Mm]', valueOf: (text) => (/^p/i.test(text) ? NOON : 0) }],
  ['M', digits('minute', 2, [0, 59])],
  ['S', digits('second', 2, [0, 59])],
]);
/** The letters that DuckDB knows without leading zeros, too, and reads alike. */
const WITHOUT_ZEROS = 'dmyHIMS';

const SPACES = '[ \\t\\n\\v\\f\\r]';
const PARTS = /%(-?)(.)|([ \t\n\v\f\r]+)|[^]/gsu;
/** Texts that DuckDB reads as moments whatever the form is. */
const SPECIAL = /^[ \t\n\v\f\r]*(?:epoch|-?infinity)[ \t\n\v\f\r]*$/i;

/** Never gives back what it has matched, as a reader that goes forward does not. */
function forwards(name: string, pattern: string): string {
  return `(?=(?<${name}>${pattern}))\\k<${name}>`;
}

export class WrittenForm {
  readonly #expression: RegExp;
  readonly #specifiers: ReadonlyMap<Field, Specifier>;

  private constructor(expression: RegExp, specifiers: ReadonlyMap<Field, Specifier>) {
    this.#expression = expression;
    this.#specifiers = specifiers;
  }

  /** @returns the part of the form that is not read here, if there is one. */
  static of(form: string): WrittenForm | { readonly unread: string } {
    const specifiers = new Map<Field, Specifier>();
    let pattern = `^${forwards('start', `${SPACES}*`)}`;
    for (const [part, dash = '', letter = '', spaces] of form.matchAll(PARTS)) {
      if (spaces !== undefined) pattern += `${SPACES}+`;
      else if (!part.startsWith('%')) pattern += `\\u{${(part.codePointAt(0) ?? 0).toString(16)}}`;
      else {
        const specifier = SPECIFIERS.get(letter);
        const isKnown = dash === '' || WITHOUT_ZEROS.includes(letter);
        if (specifier === undefined || !isKnown || specifiers.has(specifier.field))
          return { unread: part };
        specifiers.set(specifier.field, specifier);
        pattern += forwards(specifier.field, specifier.pattern);
      }
    }
    return new WrittenForm(new RegExp(`${pattern}${SPACES}*$`, 'u'), specifiers);
  }

  /** @returns null where the text does not have the form. */
  read(text: string): WholeNumber | null {
    if (SPECIAL.test(text)) throw unreadSpecial(text);
    const groups = this.#expression.exec(text)?.groups;
    if (groups === undefined) return null;
    const valueOf = (field: Field, otherwise: number): number => {
      const specifier = this.#specifiers.get(field);
      return specifier === undefined ? otherwise : (specifier.valueOf(groups[field] ?? '') ?? NaN);
    };
    const [year, month, day] = [valueOf('year', 1900), valueOf('month', 1), valueOf('day', 1)];
    const days = daysOfDate({ year, month, day });
    const hour = this.#hour(valueOf);
    const seconds = (hour * 60 + valueOf('minute', 0)) * 60 + valueOf('second', 0);
    if (Number.isNaN(days + seconds) || dateOfDays(days).day !== day) return null;
    return timestampOf(days, seconds * MICROS_PER_SECOND);
  }

  #hour(valueOf: (field: Field, otherwise: number) => number): number {
    const hour = valueOf('hour', 0);
    if (!this.#specifiers.has('half')) return hour;
    return hour > NOON ? NaN : (hour % NOON) + valueOf('half', 0);
  }
}

function unreadSpecial(text: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a time is written in a form that is not read here',
    expected: 'a date and a time',
    found: JSON.stringify(text),
    cure: 'leave the value empty, or write the time out',
  });
}
