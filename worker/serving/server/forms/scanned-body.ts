/**
 * Bodies in JSON that the addon takes apart, so that no string is made of a text that is only looked up. `JSON.parse` reads all
 * that the addon leaves as it lies. Anything unusual makes the whole body one for `parseRankingBody`, so a scanned body never
 * means anything else.
 */

import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { int32At, uint32At } from '../../../../shared/base/arrays.js';
import { MISSING_START, valuesOf, type CandidateColumn } from '../../columns/candidate-column.js';
import type { ColumnsAddon } from '../../columns/native-columns.js';
import {
  BID_MAX,
  bodyOf,
  commonFields,
  fieldsReader,
  isList,
  textKeys,
  type RankingBody,
} from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';
import { CANDIDATES_MAX, TEXT_LENGTH_MAX } from '../server-limits.js';

/** Texts and numbers of a body; `JSON.parse` reads one with more. */
const ELEMENTS_MAX = 2 ** 18;
const COLUMNS_MAX = Math.floor(ELEMENTS_MAX / CANDIDATES_MAX);
/** The words of a column, and those before the first one: `native/columns.cc`. */
const WORDS_PER_COLUMN = 7;
const HEAD_WORDS = 3;
/** The numbers that `native/columns.cc` has. */
const FORM = { texts: 1, numbers: 2 } as const;

const readFields = fieldsReader(z.strictObject({ ...commonFields, candidates: z.tuple([]) }));

const NO_CANDIDATES = Buffer.from('[]');

export class BodyScanner {
  readonly #addon: Pick<ColumnsAddon, 'scanBody'>;
  readonly #words = new Int32Array(HEAD_WORDS + WORDS_PER_COLUMN * COLUMNS_MAX);
  readonly #spans = new Uint32Array(2 * ELEMENTS_MAX);
  readonly #numbers = new Float64Array(ELEMENTS_MAX);
  #written = Buffer.alloc(0);

  constructor(addon: Pick<ColumnsAddon, 'scanBody'>) {
    this.#addon = addon;
  }

  /** Null for a body that `parseRankingBody` must parse or refuse. Valid until the next is scanned. */
  scanned(body: Buffer): RankingBody | null {
    if (!isUtf8(body)) return null;
    // Lists are somewhat longer than their values.
    if (this.#written.length < 2 * body.length)
      this.#written = Buffer.allocUnsafeSlow(2 * body.length);
    const found = [this.#words, this.#spans, this.#numbers, this.#written] as const;
    // A text has no more characters than bytes.
    const count = this.#addon.scanBody(body, ...found, TEXT_LENGTH_MAX, CANDIDATES_MAX);
    if (count < 0) return null;
    try {
      return this.#bodyOf(body, count);
    } catch (error) {
      // A part that was left as it lies is not JSON, or not what it must be.
      if (error instanceof SyntaxError || error instanceof RefusedRequest) return null;
      throw error;
    }
  }

  #bodyOf(body: Buffer, columnCount: number): RankingBody | null {
    const words = this.#words;
    const [candidateCount, start, end] = [int32At(words, 0), int32At(words, 1), int32At(words, 2)];
    const fields = readFields(
      Buffer.concat([body.subarray(0, start), NO_CANDIDATES, body.subarray(end)]),
    );
    const own = new Map<string, CandidateColumn>();
    const features = new Map<string, CandidateColumn>();
    for (let place = 0; place < columnCount; place += 1) {
      const first = HEAD_WORDS + WORDS_PER_COLUMN * place;
      const name = body.toString('utf8', int32At(words, first + 1), int32At(words, first + 2));
      const column = this.#columnAt(body, first + 3, candidateCount);
      if (column === null) return null;
      (int32At(words, first) === 0 ? own : features).set(name, column);
    }
    const keys = keysOf(own.get('adgroup'));
    const bids = amountsOf(own.get('bid'));
    const pacings = amountsOf(own.get('pacing'));
    if (keys === null || bids === undefined || pacings === undefined) return null;
    const { adgroups, keyTexts } = keys;
    return bodyOf(fields, { candidateCount, adgroups, keyTexts, features, bids, pacings });
  }

  /** @param place the word of the column's form; the next ones say where its elements are. */
  #columnAt(body: Buffer, place: number, count: number): CandidateColumn | null {
    const [form, first] = [int32At(this.#words, place), int32At(this.#words, place + 1)];
    if (form === FORM.numbers)
      return { form: 'numbers', numbers: this.#numbers.subarray(first, first + count) };
    const spans = this.#spans.subarray(first, first + 2 * count);
    if (form === FORM.texts) return { form: 'texts', bytes: body, spans };
    const [start, end] = [int32At(this.#words, place + 2), int32At(this.#words, place + 3)];
    const values: unknown = JSON.parse(this.#written.toString('utf8', start, end));
    if (!isList(values) || values.length !== count) return null;
    const withAbsent = values.map((value, candidate) =>
      uint32At(spans, 2 * candidate) === MISSING_START ? undefined : value,
    );
    return { form: 'values', values: withAbsent };
  }
}

/** Null if they are not there. */
function keysOf(
  column: CandidateColumn | undefined,
): Pick<RankingBody, 'adgroups' | 'keyTexts'> | null {
  if (column === undefined) return null;
  // Keys are texts, without empty values among them.
  if (column.form === 'texts')
    return { adgroups: column, keyTexts: () => valuesOf(column) as readonly string[] };
  return textKeys(valuesOf(column) as readonly string[]);
}

/** Null if they are not there; undefined if one is out of bounds. */
function amountsOf(column: CandidateColumn | undefined): Float64Array | null | undefined {
  if (column?.form !== 'numbers' || !(column.numbers instanceof Float64Array)) return null;
  const { numbers } = column;
  return numbers.every((amount) => amount >= 0 && amount <= BID_MAX) ? numbers : undefined;
}
