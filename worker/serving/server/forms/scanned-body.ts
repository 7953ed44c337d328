/**
 * Bodies in JSON columns that the addon takes apart, so that no string is made of a text that is only looked
 * up. Whatever the addon leaves as it lies is parsed by `JSON.parse`, and whatever looks unusual makes the
 * whole body one for `parseRankingBody`, so that a scanned body never means anything else.
 */

import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { float64At, int32At } from '../../../../shared/base/arrays.js';
import {
  valuesOf,
  type CandidateColumn,
  type TextsColumn,
} from '../../columns/candidate-column.js';
import type { ColumnsAddon } from '../../columns/native-columns.js';
import {
  BID_MAX,
  bodyOf,
  commonFields,
  commonOf,
  isList,
  type CommonOfBody,
  type RankingBody,
} from '../ranking-body.js';
import { rememberingParser, type RememberedRequest } from './remembered-fields.js';
import { CANDIDATES_MAX, COLUMNS_MAX, TEXT_LENGTH_MAX } from '../server-limits.js';

const MEMBERS_MAX = 4_096;
/** Texts and numbers of a body; one with more is parsed by `JSON.parse`. */
const ELEMENTS_MAX = 2 ** 17;
const WORDS_PER_MEMBER = 8;
/** As `native/columns/scan.h` has them. */
const FORM = { other: 0, texts: 1, numbers: 2, hasNull: 4 } as const;
const COMMON_NAMES = Object.keys(commonFields);
const knownFields = rememberingParser(z.strictObject(commonFields), commonOf);

interface Member {
  readonly level: number;
  readonly name: string;
  readonly nameStart: number;
  readonly form: number;
  readonly start: number;
  readonly end: number;
  readonly first: number;
  readonly count: number;
}

/** What was found at the levels of a body. */
interface Found {
  readonly ofBody: Map<string, Member>;
  readonly ofColumns: Map<string, Member>;
  readonly ofFeatures: Map<string, Member>;
}

export class BodyScanner {
  readonly #addon: Pick<ColumnsAddon, 'scanColumns'>;
  readonly #members = new Int32Array(WORDS_PER_MEMBER * MEMBERS_MAX);
  readonly #spans = new Uint32Array(2 * ELEMENTS_MAX);
  readonly #numbers = new Float64Array(ELEMENTS_MAX);

  constructor(addon: Pick<ColumnsAddon, 'scanColumns'>) {
    this.#addon = addon;
  }

  /** Null for a body that `parseRankingBody` must parse or refuse. Valid until the next is scanned. */
  scanned(body: Buffer): RankingBody | null {
    if (!isUtf8(body)) return null;
    // A text has no more characters than bytes.
    const found = [this.#members, this.#spans, this.#numbers] as const;
    const count = this.#addon.scanColumns(body, ...found, TEXT_LENGTH_MAX);
    if (count < 0) return null;
    try {
      return this.#bodyOf(body, count);
    } catch (error) {
      // A part that was left as it lies is not JSON.
      if (error instanceof SyntaxError || error instanceof RangeError) return null;
      throw error;
    }
  }

  #bodyOf(body: Buffer, memberCount: number): RankingBody | null {
    const found = this.#found(body, memberCount);
    if (found === null) return null;
    const common = commonFound(body, found.ofBody);
    const adgroups = this.#adgroupsOf(body, found.ofColumns.get('adgroup'));
    if (common === null || adgroups === null) return null;
    const candidateCount = adgroups.spans.length / 2;
    const bids = this.#amountsOf(found.ofColumns.get('bid'), candidateCount);
    const pacings = this.#amountsOf(found.ofColumns.get('pacing'), candidateCount);
    if (bids === undefined || pacings === undefined) return null;
    const features = new Map<string, CandidateColumn>();
    for (const [name, member] of found.ofFeatures) {
      const column = this.#columnOf(body, member, candidateCount);
      if (column === null) return null;
      features.set(name, column);
    }
    // Texts without nulls are strings.
    const keyTexts = (): readonly string[] => valuesOf(adgroups) as readonly string[];
    const candidates = { candidateCount, adgroups, keyTexts, features, bids, pacings };
    return bodyOf(common.kept, common, candidates);
  }

  /** Null if a name comes twice or is none of a body's. */
  #found(body: Buffer, memberCount: number): Found | null {
    const found: Found = { ofBody: new Map(), ofColumns: new Map(), ofFeatures: new Map() };
    const byLevel = [found.ofBody, found.ofColumns, found.ofFeatures] as const;
    for (let place = 0; place < memberCount; place += 1) {
      const member = this.#memberAt(body, place);
      const level = byLevel[member.level];
      if (level === undefined || level.has(member.name)) return null;
      level.set(member.name, member);
    }
    const isKnown =
      found.ofBody.has('columns') &&
      [...found.ofBody.keys()].every((name) => name === 'columns' || COMMON_NAMES.includes(name)) &&
      [...found.ofColumns.keys()].every((name) => COLUMN_NAMES.includes(name));
    return isKnown && found.ofFeatures.size <= COLUMNS_MAX ? found : null;
  }

  #memberAt(body: Buffer, place: number): Member {
    const at = (word: number): number => int32At(this.#members, WORDS_PER_MEMBER * place + word);
    return {
      ...{ level: at(0), name: body.toString('utf8', at(1), at(2)), nameStart: at(1) },
      ...{ form: at(3), start: at(4), end: at(5), first: at(6), count: at(7) },
    };
  }

  #adgroupsOf(body: Buffer, member: Member | undefined): TextsColumn | null {
    return member?.form === FORM.texts && member.count <= CANDIDATES_MAX
      ? this.#textsOf(body, member)
      : null;
  }

  #textsOf(bytes: Buffer, { first, count }: Member): TextsColumn {
    return { form: 'texts', bytes, spans: this.#spans.subarray(first, first + 2 * count) };
  }

  /** Null if they are not there; undefined if they are not what bids and pacings are. */
  #amountsOf(member: Member | undefined, count: number): Float64Array | null | undefined {
    if (member === undefined) return null;
    if (member.count !== count) return undefined;
    if (count === 0) return new Float64Array(0);
    if (member.form !== FORM.numbers) return undefined;
    const amounts = this.#numbers.subarray(member.first, member.first + count);
    for (let place = 0; place < count; place += 1) {
      const amount = float64At(amounts, place);
      if (!(amount >= 0 && amount <= BID_MAX)) return undefined;
    }
    return amounts;
  }

  #columnOf(body: Buffer, member: Member, candidateCount: number): CandidateColumn | null {
    const { form, start, end, first, count } = member;
    if (form === FORM.other) {
      const values: unknown = JSON.parse(body.toString('utf8', start, end));
      return isList(values) && values.length === candidateCount ? { form: 'values', values } : null;
    }
    if (count !== candidateCount) return null;
    if ((form & FORM.numbers) === 0) return this.#textsOf(body, member);
    return { form: 'numbers', numbers: this.#numbers.subarray(first, first + count) };
  }
}

const COLUMN_NAMES: readonly string[] = ['adgroup', 'bid', 'pacing', 'features'];

/** Members of the body itself, as an object of their own. */
function commonFound(
  body: Buffer,
  ofBody: ReadonlyMap<string, Member>,
): RememberedRequest<CommonOfBody> | null {
  let text = '';
  for (const [name, { nameStart, end }] of ofBody)
    if (name !== 'columns')
      text += (text === '' ? '{"' : ',"') + body.toString('utf8', nameStart, end);
  return knownFields(text === '' ? '{}' : `${text}}`);
}
