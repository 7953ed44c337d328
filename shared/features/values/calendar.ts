/**
 * Dates and timestamps without a zone: days and microseconds since 1970-01-01 in the proleptic
 * Gregorian calendar, and their text as DuckDB writes and reads it, for the years 1 to 9999.
 */

import { QianmoError } from '../../base/errors.js';
import {
  differenceOf,
  floorQuotientOf,
  floorRemainderOf,
  productOf,
  sumOf,
  type WholeNumber,
} from './whole-number.js';

export const MICROS_PER_SECOND = 1_000_000;
export const MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND;
const DAYS_PER_ERA = 146_097;
/** From 0000-03-01 to 1970-01-01. */
const DAYS_BEFORE_EPOCH = 719_468;

export interface CivilDate {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  /** 1 to 31. */
  readonly day: number;
}

/** The days since 1970-01-01 of a date; years begin in March here, so that leap days come last. */
export function daysOfDate({ year, month, day }: CivilDate): number {
  const shiftedYear = month <= 2 ? year - 1 : year;
  const era = Math.floor(shiftedYear / 400);
  const yearOfEra = shiftedYear - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra =
    yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * DAYS_PER_ERA + dayOfEra - DAYS_BEFORE_EPOCH;
}

export function dateOfDays(days: number): CivilDate {
  const shifted = days + DAYS_BEFORE_EPOCH;
  const era = Math.floor(shifted / DAYS_PER_ERA);
  const dayOfEra = shifted - era * DAYS_PER_ERA;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear =
    dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1,
  };
}

export function dayOfTimestamp(micros: WholeNumber): number {
  return Number(floorQuotientOf(micros, MICROS_PER_DAY));
}

export function microsOfDay(micros: WholeNumber): number {
  return floorRemainderOf(micros, MICROS_PER_DAY);
}

export function timestampOf(days: number, micros: number): WholeNumber {
  return sumOf(productOf(days, MICROS_PER_DAY), micros);
}

function padded(value: number, width: number): string {
  return String(value).padStart(width, '0');
}

export function dateText(days: number): string {
  const { year, month, day } = dateOfDays(days);
  const isBeforeChrist = year <= 0;
  const date = `${padded(isBeforeChrist ? 1 - year : year, 4)}-${padded(month, 2)}-${padded(day, 2)}`;
  return isBeforeChrist ? `${date} (BC)` : date;
}

export function timestampText(micros: WholeNumber): string {
  const ofDay = microsOfDay(micros);
  const seconds = Math.floor(ofDay / MICROS_PER_SECOND);
  const fraction = padded(ofDay % MICROS_PER_SECOND, 6).replace(/0+$/, '');
  const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const time = clock.map((part) => padded(part, 2)).join(':');
  return `${dateText(dayOfTimestamp(micros))} ${time}${fraction === '' ? '' : `.${fraction}`}`;
}

const MOMENT_TEXT =
  /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d(?::\d\d)?)?)?$/;
/** Texts that DuckDB may read in a form that is not read here. */
const PERHAPS_MOMENT = /^[\s+\-\d]|^(?:inf|epoch)/i;
const OFFSET_HOURS_MAX = 15;

/**
 * A text as a timestamp; a text with an offset is moved to UTC.
 * @returns null where the text is not a timestamp.
 * @throws QianmoError of kind `data` when the text may be one in a form other than
 *   `YYYY-MM-DD [HH:MM[:SS[.fraction]]]`, followed by `Z` or `+HH[:MM]` where `hasZone`.
 */
export function timestampOfText(text: string, hasZone: boolean): WholeNumber | null {
  const found = MOMENT_TEXT.exec(text);
  if (found === null) {
    if (!PERHAPS_MOMENT.test(text)) return null;
    throw unreadMoment(text, hasZone);
  }
  const [, year, month, day, hour, minute, second, fraction, zone] = found;
  const date = { year: Number(year), month: Number(month), day: Number(day) };
  const clock = [Number(hour ?? 0), Number(minute ?? 0), Number(second ?? 0)] as const;
  if (date.year === 0 || clock[0] === 24) throw unreadMoment(text, hasZone);
  if (date.month < 1 || date.month > 12 || date.day < 1) return null;
  const days = daysOfDate(date);
  if (dateOfDays(days).day !== date.day) return null;
  if (clock[0] > 24 || clock[1] > 59 || clock[2] > 59) return null;
  const micros = Number((fraction ?? '').padEnd(6, '0').slice(0, 6));
  const local = timestampOf(days, clockSeconds(clock) * MICROS_PER_SECOND + micros);
  if (zone === undefined || zone === 'Z') return local;
  if (!hasZone) throw unreadMoment(text, hasZone);
  return differenceOf(local, offsetSecondsOf(zone, text) * MICROS_PER_SECOND);
}

function clockSeconds([hour, minute, second]: readonly [number, number, number]): number {
  return (hour * 60 + minute) * 60 + second;
}

function offsetSecondsOf(zone: string, text: string): number {
  const hours = Number(zone.slice(1, 3));
  const minutes = Number(zone.slice(4) || 0);
  if (hours > OFFSET_HOURS_MAX || minutes > 59) throw unreadMoment(text, true);
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes) * 60;
}

function unreadMoment(text: string, hasZone: boolean): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a timestamp is written in a form that is not read here',
    expected: `YYYY-MM-DD, or YYYY-MM-DD HH:MM:SS with a fraction${hasZone ? ' and an offset' : ''} where there is one, of the years 1 to 9999`,
    found: JSON.stringify(text),
    cure: 'write the timestamp in that form',
  });
}
