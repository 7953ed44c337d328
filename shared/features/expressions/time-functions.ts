/** Functions of dates and timestamps, all in UTC. */

import {
  dateOfDays,
  dayOfTimestamp,
  daysOfDate,
  microsOfDay,
  MICROS_PER_DAY,
  MICROS_PER_SECOND,
  timestampOf,
  type CivilDate,
} from '../values/calendar.js';
import {
  floorQuotientOf,
  productOf,
  quotientOf,
  wholeNumberOf,
  type WholeNumber,
} from '../values/whole-number.js';
import { WrittenForm } from '../values/written-form.js';
import {
  asDouble,
  asText,
  asWhole,
  constant,
  failRow,
  isNumeric,
  isWhole,
  outside,
  unary,
  type Bound,
} from './bound-expression.js';
import { castTo } from './casts.js';
import type { FunctionOfSubset } from './function-table.js';

type PartOf = (micros: WholeNumber) => WholeNumber;

function ofClock(microsPerUnit: number, unitCount: number): PartOf {
  return (micros) => Math.floor(microsOfDay(micros) / microsPerUnit) % unitCount;
}

function ofDate(part: (date: CivilDate, days: number) => number): PartOf {
  return (micros) => {
    const days = dayOfTimestamp(micros);
    return part(dateOfDays(days), days);
  };
}

const MINUTE = 60 * MICROS_PER_SECOND;
const HOUR = 60 * MINUTE;
/** 1970-01-01 was a Thursday. */
const EPOCH_WEEKDAY = 4;

/** 0 is Sunday. */
function weekday(days: number): number {
  return (((days + EPOCH_WEEKDAY) % 7) + 7) % 7;
}

function isoWeekday(days: number): number {
  return weekday(days) || 7;
}

function dayOfYear({ year }: CivilDate, days: number): number {
  return days - daysOfDate({ year, month: 1, day: 1 }) + 1;
}

/** The week of its Thursday's year. */
function isoWeek(_date: CivilDate, days: number): number {
  const thursday = days - isoWeekday(days) + 4;
  return Math.floor((dayOfYear(dateOfDays(thursday), thursday) - 1) / 7) + 1;
}

const DAY_OF_WEEK = ofDate((_date, days) => weekday(days));
const DAY_OF_YEAR = ofDate(dayOfYear);
const WEEK = ofDate(isoWeek);
const PARTS: ReadonlyMap<string, PartOf> = new Map([
  ['year', ofDate(({ year }) => year)],
  ['quarter', ofDate(({ month }) => Math.ceil(month / 3))],
  ['month', ofDate(({ month }) => month)],
  ['week', WEEK],
  ['weekofyear', WEEK],
  ['day', ofDate(({ day }) => day)],
  ['dayofmonth', ofDate(({ day }) => day)],
  ['dow', DAY_OF_WEEK],
  ['dayofweek', DAY_OF_WEEK],
  ['weekday', DAY_OF_WEEK],
  ['isodow', ofDate((_date, days) => isoWeekday(days))],
  ['doy', DAY_OF_YEAR],
  ['dayofyear', DAY_OF_YEAR],
  ['hour', ofClock(HOUR, 24)],
  ['minute', ofClock(MINUTE, 60)],
  ['second', ofClock(MICROS_PER_SECOND, 60)],
]);
/** Parts that are no function of their own. */
const PARTS_WITHOUT_FUNCTION = new Set(['dow', 'doy']);

/** A DATE as a TIMESTAMP; others as they are. */
function momentOf(bound: Bound): Bound {
  if (bound.type === 'NULL' || bound.type === 'DATE') return castTo('TIMESTAMP', bound);
  if (bound.type === 'TIMESTAMP' || bound.type === 'TIMESTAMPTZ') return bound;
  return outside(`a date or timestamp is expected, not ${bound.type}: write a CAST`);
}

function partOfMoment(part: string, bound: Bound): Bound {
  const moment = momentOf(bound);
  if (part === 'epoch')
    return unary('DOUBLE', moment, (micros) => Number(asWhole(micros)) / MICROS_PER_SECOND);
  const partOf = PARTS.get(part) ?? outside(`the part "${part}" of a date is not of the subset`);
  return unary('BIGINT', moment, (micros) => partOf(asWhole(micros)));
}

const TRUNCATIONS: ReadonlyMap<string, (micros: WholeNumber) => WholeNumber> = new Map([
  ['second', toUnit(MICROS_PER_SECOND)],
  ['minute', toUnit(MINUTE)],
  ['hour', toUnit(HOUR)],
  ['day', toUnit(MICROS_PER_DAY)],
  ['week', toDay((_date, days) => days - isoWeekday(days) + 1)],
  ['month', toDay(({ year, month }) => daysOfDate({ year, month, day: 1 }))],
  [
    'quarter',
    toDay(({ year, month }) => daysOfDate({ year, month: month - ((month - 1) % 3), day: 1 })),
  ],
  ['year', toDay(({ year }) => daysOfDate({ year, month: 1, day: 1 }))],
]);

function toUnit(microsPerUnit: number): (micros: WholeNumber) => WholeNumber {
  return (micros) => productOf(floorQuotientOf(micros, microsPerUnit), microsPerUnit);
}

function toDay(
  dayOf: (date: CivilDate, days: number) => number,
): (micros: WholeNumber) => WholeNumber {
  return (micros) => {
    const days = dayOfTimestamp(micros);
    return timestampOf(dayOf(dateOfDays(days), days), 0);
  };
}

/** DuckDB 1.5 compares these of a DATE wrongly with a constant. */
const WITHIN_A_DAY = new Set(['second', 'minute', 'hour']);

function truncated(part: string, bound: Bound): Bound {
  if (bound.type === 'DATE' && WITHIN_A_DAY.has(part))
    return outside(`date_trunc of a DATE to the ${part}`);
  const moment = momentOf(bound);
  const truncate = TRUNCATIONS.get(part) ?? outside(`date_trunc to "${part}" is not of the subset`);
  const truncation = unary(moment.type, moment, (micros) => truncate(asWhole(micros)));
  return { ...truncation, isTruncated: true };
}

/** A function whose first argument names a part, as a text written in the expression. */
function ofPart(bind: (part: string, moment: Bound) => Bound): FunctionOfSubset {
  return {
    argCountMin: 2,
    argCountMax: 2,
    bind: ([part, moment]) =>
      part?.text === undefined || moment === undefined
        ? outside('a part of a date that is not written as a text')
        : bind(part.text.toLowerCase(), moment),
  };
}

function ofOne(bind: (arg: Bound) => Bound): FunctionOfSubset {
  return {
    argCountMin: 1,
    argCountMax: 1,
    bind: ([arg]) => (arg === undefined ? outside('a function without its argument') : bind(arg)),
  };
}

/** Beyond this many microseconds there is no timestamp. */
const TIMESTAMP_MICROS_END = 2n ** 63n - 1n;

/** A whole number of units since 1970-01-01 as a timestamp. */
function ofWholeUnits(bound: Bound, microsPerUnit: number): Bound {
  if (bound.type === 'NULL') return constant('TIMESTAMP', null);
  if (!isWhole(bound.type)) return outside(`a whole number is expected, not ${bound.type}`);
  return unary('TIMESTAMP', bound, (value) => {
    const micros = productOf(asWhole(value), microsPerUnit);
    return micros >= TIMESTAMP_MICROS_END || micros <= -TIMESTAMP_MICROS_END ? failRow() : micros;
  });
}

function toTimestamp(bound: Bound): Bound {
  if (bound.decimal === undefined && bound.type === 'NULL') return constant('TIMESTAMPTZ', null);
  if (bound.decimal === undefined && !isNumeric(bound.type))
    return outside(`a number is expected, not ${bound.type}`);
  return unary('TIMESTAMPTZ', castTo('DOUBLE', bound), (value) => {
    const micros = Math.round(asDouble(value) * MICROS_PER_SECOND);
    if (!(Math.abs(micros) < Number(TIMESTAMP_MICROS_END))) return failRow();
    return Number.isSafeInteger(micros) ? micros + 0 : wholeNumberOf(BigInt(micros));
  });
}

/** Milliseconds of a timestamp, rounded towards zero, or the timestamp of as many milliseconds. */
function epochMs(bound: Bound): Bound {
  if (isWhole(bound.type)) return ofWholeUnits(bound, 1000);
  return unary('BIGINT', momentOf(bound), (micros) => quotientOf(asWhole(micros), 1000));
}

/** `strptime(text, form)`, with a form that is written in the expression. */
function writtenMoment([text, form]: readonly Bound[]): Bound {
  if (text === undefined || form?.text === undefined)
    return outside('strptime with a form that is not written as a text');
  const written = WrittenForm.of(form.text);
  if (!(written instanceof WrittenForm))
    return outside(`"${written.unread}" in a form of strptime`);
  if (text.type === 'NULL') return constant('TIMESTAMP', null);
  if (text.type !== 'VARCHAR') return outside(`strptime of ${text.type}: write a CAST`);
  return unary('TIMESTAMP', text, (value) => written.read(asText(value)) ?? failRow());
}

const DATE_PART = ofPart(partOfMoment);
const DATE_TRUNC = ofPart(truncated);

export const TIME_FUNCTIONS: ReadonlyMap<string, FunctionOfSubset> = new Map([
  ...[...PARTS.keys()]
    .filter((part) => !PARTS_WITHOUT_FUNCTION.has(part))
    .map((part): [string, FunctionOfSubset] => [part, ofOne((arg) => partOfMoment(part, arg))]),
  ['epoch', ofOne((arg) => partOfMoment('epoch', arg))],
  ['date_part', DATE_PART],
  ['datepart', DATE_PART],
  ['date_trunc', DATE_TRUNC],
  ['datetrunc', DATE_TRUNC],
  ['strptime', { argCountMin: 2, argCountMax: 2, bind: writtenMoment }],
  ['to_timestamp', ofOne(toTimestamp)],
  ['make_timestamp', ofOne((arg) => ofWholeUnits(arg, 1))],
  ['epoch_ms', ofOne(epochMs)],
  ['epoch_us', ofOne((arg) => unary('BIGINT', momentOf(arg), (micros) => micros))],
]);
