/**
 * The forms in which logs write numbers, times, truth values, several values and words. Each function reads the texts of a
 * column and returns the SQL that reads them, or null if they have another form.
 */

import { counted } from '../../shared/names/counted.js';
import { identifier, literal } from '../logs/sql.js';

/** SQL of a value, and the reason in the words of a comment. */
interface Reading {
  /** Null if the column can be read as it is. */
  readonly expression: string | null;
  /** Null if there is nothing to explain. */
  readonly reason: string | null;
}

interface NumberReading extends Reading {
  readonly valueOf: (text: string) => number | null;
  /** True if some texts are not numbers. */
  readonly leavesOut: boolean;
}

/** The share of texts that must have a form. */
const FORM_SHARE_MIN = 0.8;

/** Signs of currencies and shares at either end of a number, longest first. */
const UNIT_SIGNS = [' EUR', ' USD', ' GBP', ' CNY', ' €', ' $', ' %', '$', '€', '£', '¥', '%'];
const PLAIN = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
const GROUPED_BY_COMMAS = /^[-+]?\d{1,3}(,\d{3})+(\.\d+)?$/;
const WITH_DECIMAL_COMMA = /^[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$/;

/** Reads numbers with decimal commas, separators of thousands, currencies and words in between. */
export function readNumbers(name: string, texts: readonly string[]): NumberReading | null {
  const signs = UNIT_SIGNS.filter((sign) =>
    texts.some((text) => (text.startsWith(sign) || text.endsWith(sign)) && /\d/.test(text)),
  );
  const bare = (text: string): string =>
    signs.reduce((rest, sign) => rest.replaceAll(sign, ''), text).trim();
  const bareTexts = texts.map(bare);
  const share = (pattern: RegExp): number =>
    bareTexts.filter((text) => pattern.test(text)).length / Math.max(1, texts.length);
  const isGrouped = bareTexts.some((text) => GROUPED_BY_COMMAS.test(text));
  // 1,278 alone may be either; 7,35 and 1.278,50 can only have a decimal comma.
  const hasDecimalComma = bareTexts.some(
    (text) => WITH_DECIMAL_COMMA.test(text) && text.includes(',') && !GROUPED_BY_COMMAS.test(text),
  );
  const removed = [...signs];
  let form: RegExp = PLAIN;
  const reasons: string[] = signs.length > 0 ? ['units'] : [];
  if (hasDecimalComma) {
    form = WITH_DECIMAL_COMMA;
    if (bareTexts.some((text) => text.includes('.'))) removed.push('.');
    reasons.push('decimal commas');
  } else if (isGrouped) {
    form = new RegExp(`${PLAIN.source}|${GROUPED_BY_COMMAS.source}`, 'i');
    removed.push(',');
    reasons.push('separators of thousands');
  }
  const formShare = share(form);
  if (formShare < FORM_SHARE_MIN) return null;
  const leavesOut = formShare < 1;
  if (leavesOut) reasons.push('words among the numbers');
  let sql = identifier(name);
  for (const sign of removed) sql = `replace(${sql}, ${literal(sign)}, '')`;
  if (hasDecimalComma) sql = `replace(${sql}, ',', '.')`;
  return {
    expression: reasons.length === 0 ? null : `TRY_CAST(${sql} AS DOUBLE)`,
    reason: reasons.length === 0 ? null : reasons.join(', '),
    leavesOut,
    valueOf: (text) => {
      const stripped = bare(text);
      if (!form.test(stripped)) return null;
      const whole = removed.includes('.') ? stripped.replaceAll('.', '') : stripped;
      return Number(hasDecimalComma ? whole.replace(',', '.') : whole.replaceAll(',', ''));
    },
  };
}

export interface TimeReading extends Reading {
  /** SQL of the hour of the day; null if times have none. */
  readonly hour: string | null;
}

const ISO_TIME = /^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[-+]\d{2}:?\d{2})?)?$/;
const SLASH_TIME = /^\d{4}\/\d{2}\/\d{2}( \d{2}:\d{2}(:\d{2})?)?$/;
const DAY_FIRST = /^(\d{1,2})([./-])(\d{1,2})[./-]\d{4}( \d{1,2}:\d{2}(:\d{2})?)?$/;
const EPOCH_SECONDS_MIN = 946_684_800;
const EPOCH_SECONDS_MAX = 4_102_444_800;

/**
 * Reads timestamps, seconds and milliseconds since 1970, and dates whose day or month comes first.
 *
 * @param type of the column where the file has types: expressions over a text there do not take it for a time.
 */
export function readTimes(
  name: string,
  texts: readonly string[],
  type: string | null = null,
): TimeReading | null {
  const column = identifier(name);
  const number = `CAST(${column} AS DOUBLE)`;
  const most = (isOf: (text: string) => boolean): boolean =>
    texts.length > 0 && texts.filter(isOf).length / texts.length >= FORM_SHARE_MIN;
  if (most((text) => ISO_TIME.test(text))) {
    const time = type === 'VARCHAR' ? parsedIsoTime(column, texts) : column;
    const hasClock = texts.some((text) => text.includes(':'));
    return {
      ...{ expression: null, reason: null },
      hour: hasClock && time !== null ? `hour(${time})` : null,
    };
  }
  if (most((text) => SLASH_TIME.test(text))) return { expression: null, reason: null, hour: null };
  const isSeconds = (scale: number) => (text: string) => {
    const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) / scale : 0;
    return seconds >= EPOCH_SECONDS_MIN && seconds <= EPOCH_SECONDS_MAX;
  };
  if (most(isSeconds(1)))
    return {
      ...{ expression: null, reason: 'seconds since 1970' },
      hour: hourOfSeconds(number),
    };
  if (most(isSeconds(1_000)))
    return {
      ...{ expression: `${number} / 1000`, reason: 'milliseconds since 1970' },
      hour: hourOfSeconds(`${number} / 1000`),
    };
  if (!most((text) => DAY_FIRST.test(text))) return null;
  const parts = texts.flatMap((text) => {
    const [, first, separator, second, clock, seconds] = DAY_FIRST.exec(text) ?? [];
    return first === undefined ? [] : [{ first, separator, second, clock, seconds }];
  });
  const isMonthFirst =
    parts.some(({ second }) => Number(second) > 12) &&
    !parts.some(({ first }) => Number(first) > 12);
  const [{ separator = '/' } = {}] = parts;
  const dates = isMonthFirst ? ['%m', '%d', '%Y'] : ['%d', '%m', '%Y'];
  const hasClock = parts.some(({ clock }) => clock !== undefined);
  const clock = !hasClock
    ? ''
    : parts.some(({ seconds }) => seconds !== undefined)
      ? ' %H:%M:%S'
      : ' %H:%M';
  const expression = `strptime(${column}, ${literal(`${dates.join(separator)}${clock}`)})`;
  return {
    expression,
    reason: isMonthFirst ? 'the month comes first' : 'the day comes first',
    hour: hasClock ? `hour(${expression})` : null,
  };
}

/** SQL that both DuckDB and ranking servers know; null if the texts have several forms, or offsets. */
function parsedIsoTime(column: string, texts: readonly string[]): string | null {
  const first = texts[0] ?? '';
  const form = `%Y-%m-%d${first.charAt(10)}${first.length > 16 ? '%H:%M:%S' : '%H:%M'}`;
  const isAlike = (text: string): boolean =>
    text.length === first.length && text.charAt(10) === first.charAt(10);
  const isPlain = first.length === 16 || first.length === 19;
  return isPlain && texts.every(isAlike) ? `strptime(${column}, ${literal(form)})` : null;
}

function hourOfSeconds(seconds: string): string {
  return `CAST(floor(${seconds} / 3600) AS BIGINT) % 24`;
}

const TRUE_WORDS = new Set([
  '1',
  'yes',
  'y',
  'true',
  't',
  'click',
  'clicked',
  'ja',
  'oui',
  'si',
  '是',
]);
const FALSE_WORDS = new Set([
  '0',
  'no',
  'n',
  'false',
  'f',
  'none',
  'not clicked',
  'nein',
  'non',
  '否',
]);

/** 1 for a word that means clicked, 0 for one that means not clicked; null for any other. */
export function truthOf(text: string): number | null {
  const word = text.trim().toLowerCase();
  if (TRUE_WORDS.has(word)) return 1;
  return FALSE_WORDS.has(word) ? 0 : null;
}

/** Reads words for clicked and not clicked. Other words are neither, so their rows are rejected. */
export function readTruth(name: string, texts: readonly string[]): Reading | null {
  const words = [...new Set(texts.map((text) => text.trim().toLowerCase()))];
  const found = (known: ReadonlySet<string>): string[] => words.filter((word) => known.has(word));
  const [yes, no] = [found(TRUE_WORDS), found(FALSE_WORDS)];
  const known = new Set([...yes, ...no]);
  const knownCount = texts.filter((text) => known.has(text.trim().toLowerCase())).length;
  if (yes.length === 0 || no.length === 0 || knownCount / texts.length < FORM_SHARE_MIN)
    return null;
  if (words.every((word) => word === '0' || word === '1'))
    return { expression: null, reason: null };
  const text = `lower(trim(CAST(${identifier(name)} AS VARCHAR)))`;
  const list = (of: readonly string[]): string => of.map(literal).join(', ');
  return {
    expression: `CASE WHEN ${text} IN (${list(yes)}) THEN true WHEN ${text} IN (${list(no)}) THEN false END`,
    reason: `${yes.join(', ')} or ${no.join(', ')}; rows with other words are rejected`,
  };
}

const SEPARATORS = ['|', '; ', ';', ', ', ',', ' '];
const BAG_ROWS_SHARE_MIN = 0.2;

/** Finds the separator of several values in one field: the parts must recur far more often than the whole texts. */
export function findBagSeparator(texts: readonly string[]): string | null {
  for (const separator of SEPARATORS) {
    const split = texts.filter((text) => text.includes(separator));
    if (split.length / Math.max(1, texts.length) < BAG_ROWS_SHARE_MIN) continue;
    const wholes = new Set(texts);
    const parts = new Set(texts.flatMap((text) => text.split(separator)));
    if (parts.size * 2 <= wholes.size) return separator;
  }
  return null;
}

/** Reads words that are spelled in several ways: ` NEWS.EXAMPLE` and `news.example`. */
export function readWords(name: string, texts: readonly string[]): Reading {
  const spelled = new Set(texts).size;
  const alike = new Set(texts.map((text) => text.trim().toLowerCase())).size;
  if (alike === spelled) return { expression: null, reason: null };
  return {
    expression: `lower(trim(CAST(${identifier(name)} AS VARCHAR)))`,
    reason: `${spelled} spellings of ${counted(alike, 'value')}`,
  };
}

const NO_NAME = ['null', 'n/a', 'na', 'none', 'nan', '-', '(not set)'];

/** Reads the names of adgroups: one spelling for each, and none for words that mean that there is none. */
export function readNames(name: string, texts: readonly string[]): Reading {
  const lowered = new Set(texts.map((text) => text.trim().toLowerCase()));
  const empty = NO_NAME.filter((word) => lowered.has(word));
  const words = readWords(name, texts);
  if (empty.length === 0) return words;
  const text = words.expression ?? `lower(trim(CAST(${identifier(name)} AS VARCHAR)))`;
  const reasons = [words.reason, `no adgroup: ${empty.join(', ')}`].filter((each) => each !== null);
  return {
    expression: `CASE WHEN ${text} NOT IN (${empty.map(literal).join(', ')}) THEN ${text} END`,
    reason: reasons.join('; '),
  };
}
