/**
 * Bodies in JSON that the addon takes apart, in columns or in objects, so that no string is made of a text that is only
 * looked up. Whatever the addon leaves as it lies is parsed by `JSON.parse`, and whatever looks unusual makes the
 * whole body one for `parseRankingBody`, so that a scanned body never means anything else.
 */

import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { float64At, int32At, uint32At } from '../../../../shared/base/arrays.js';
import {
  MISSING_START,
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
const ELEMENTS_MAX = 2 ** 18;
const WORDS_PER_MEMBER = 8;
/** The numbers that `native/columns/scan.h` has. */
const FORM = { texts: 1, numbers: 2, hasNull: 4, written: 8, listed: 16 } as const;
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
  readonly #addon: Pick<ColumnsAddon, 'scanBody'>;
  readonly #members = new Int32Array(WORDS_PER_MEMBER * MEMBERS_MAX);
  readonly #spans = new Uint32Array(2 * ELEMENTS_MAX);
  readonly #numbers = new Float64Array(ELEMENTS_MAX);
  #written = Buffer.alloc(0);

  constructor(addon: Pick<ColumnsAddon, 'scanBody'>) {
    this.#addon = addon;
  }

  /** Null for a body that `parseRankingBody` must parse or refuse. Valid until the next is scanned. */
  scanned(body: Buffer): RankingBody | null {
    if (!isUtf8(body)) return null;
    // Lists are somewhat longer than what they are made of.
    if (this.#written.length < 2 * body.length)
      this.#written = Buffer.allocUnsafeSlow(2 * body.length);
    const found = [this.#members, this.#spans, this.#numbers, this.#written] as const;
    // A text has no more characters than bytes.
    const count = this.#addon.scanBody(body, ...found, TEXT_LENGTH_MAX, CANDIDATES_MAX);
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
    const ofCandidates = found.ofBody.has('columns') ? 'columns' : 'candidates';
    const isKnown =
      found.ofBody.has(ofCandidates) &&
      [...found.ofBody.keys()].every(
        (name) => name === ofCandidates || COMMON_NAMES.includes(name),
      ) &&
      [...found.ofColumns.keys()].every((name) => COLUMN_NAMES.includes(name));
    return isKnown && found.ofFeatures.size <= COLUMNS_MAX ? found : null;
  }

  #memberAt(body: Buffer, place: number): Member {
    const at = WORDS_PER_MEMBER * place;
    const members = this.#members;
    const nameStart = int32At(members, at + 1);
    return {
      level: int32At(members, at),
      name: body.toString('utf8', nameStart, int32At(members, at + 2)),
      nameStart,
      form: int32At(members, at + 3),
      start: int32At(members, at + 4),
      end: int32At(members, at + 5),
      first: int32At(members, at + 6),
      count: int32At(members, at + 7),
    };
  }

  #adgroupsOf(body: Buffer, member: Member | undefined): TextsColumn | null {
    return member !== undefined &&
      (member.form & ~FORM.written) === FORM.texts &&
      member.count <= CANDIDATES_MAX
      ? this.#textsOf(body, member)
      : null;
  }

  #textsOf(body: Buffer, { form, first, count }: Member): TextsColumn {
    const bytes = (form & FORM.written) === 0 ? body : this.#written;
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
    const { form, first, count } = member;
    if (form === 0) return listedColumn(body, member, candidateCount);
    if (count !== candidateCount) return null;
    if ((form & FORM.listed) !== 0) {
      const spans = this.#spans.subarray(first, first + 2 * count);
      return listedColumn(this.#written, member, count, spans);
    }
    if ((form & FORM.numbers) === 0) return this.#textsOf(body, member);
    return { form: 'numbers', numbers: this.#numbers.subarray(first, first + count) };
  }
}

/**
 * A column that is a list in JSON; null if it is none.
 *
 * @param spans tell which candidates have no value.
 */
function listedColumn(
  bytes: Buffer,
  { start, end }: Member,
  candidateCount: number,
  spans?: Uint32Array,
): CandidateColumn | null {
  const values: unknown = JSON.parse(bytes.toString('utf8', start, end));
  if (!isList(values) || values.length !== candidateCount) return null;
  if (spans === undefined) return { form: 'values', values };
  const withAbsent = values.map((value, candidate) =>
    uint32At(spans, 2 * candidate) === MISSING_START ? undefined : value,
  );
  return { form: 'values', values: withAbsent };
}

const COLUMN_NAMES: readonly string[] = ['adgroup', 'bid', 'pacing', 'features'];

/** Members of the body itself, as an object of their own. */
function commonFound(
  body: Buffer,
  ofBody: ReadonlyMap<string, Member>,
): RememberedRequest<CommonOfBody> | null {
  let text = '';
  for (const [name, { nameStart, end }] of ofBody)
    if (name !== 'columns' && name !== 'candidates')
      text += (text === '' ? '{"' : ',"') + body.toString('utf8', nameStart, end);
  return knownFields(text === '' ? '{}' : `${text}}`);
}
