/**
 * The body of a request. In JSON it has candidates, or their columns:
 *
 *   {"context": {...}, "candidates": [{"adgroup": "a", "features": {"price": 7}, "bid": 1.5}, ...]}
 *   {"context": {...}, "candidates": {"adgroup": ["a", ...], "features": {"price": [7, ...]}, "bid": [1.5, ...]}}
 *
 * Requests in binary have columns, some of which are arrays. Requests and answers have one layout, little-endian:
 *
 *   bytes 0-3    the length of the header (unsigned)
 *   from 4 on    the header: JSON in UTF-8
 *   then         arrays in the order of the header, each from the next multiple of 8 on
 *
 * A column of texts is `[count + 1]` offsets (unsigned, 32 bits) into the bytes that follow them. The header of a request has
 * the fields that bodies in JSON have, and names the arrays: "adgroup", "bid", "pacing", then the features in the order of their
 * list.
 *
 *   {"context": {...}, "count": 2, "columns":
 *     {"adgroup": "hash", "bid": "float64", "features": [["brand", "text"], ["price", "float32"]]}}
 */

import { z } from 'zod';
import { LruCache } from '../../../shared/base/lru-cache.js';
import { SLOTS_MAX } from '../../../shared/config/decision-record.js';
import { BundleDigestSchema } from '../../../shared/bundle/bundle-manifest.js';
import type { RawRow } from '../../../shared/features/encoding-rules.js';
import {
  columnOfTexts,
  MISSING_START,
  NULL_START,
  valuesOf,
  type CandidateColumn,
  type HashesColumn,
  type TextsColumn,
} from '../candidate-columns.js';
import { jsonOf, parseWith, RefusedRequest, type Refusal, refusalOf } from './refused-request.js';
import { isUtf8 } from 'node:buffer';
import { int32At, numberAt, uint32At, uint8At } from '../../../shared/base/arrays.js';
import type { ColumnsAddon } from '../kernel-scorer.js';

const CANDIDATES_MAX = 5_000;
/** Columns of the context, and of the candidates. */
const COLUMNS_MAX = 1_000;
const TEXT_LENGTH_MAX = 10_000;
const LIST_LENGTH_MAX = 1_000;
/** Joins the columns of an adgroup's key. */
export const KEY_SEPARATOR = '\u001f';
/** Bounds bids, pacings and the reserve. */
const BID_MAX = 1e12;
const SEED_MAX = 0xffffffff;

/** Lists that an answer may have, in their order there; `/v1/score` has no `order` and no `values`. */
export const ANSWER_FIELDS = [
  'order',
  'values',
  'scores',
  'probabilities',
  'expected',
  'blocks',
  'segments',
  'evidence',
] as const;

export type AnswerField = (typeof ANSWER_FIELDS)[number];

/** The wishes of a request about the bundle that answers it. */
export interface BundleWish {
  /** The digest of the bundle that must answer; null lets any. */
  readonly bundle: string | null;
  /** The key by which requests are the same for the choice; null where the whole body decides. */
  readonly requestKey: string | null;
}

/** A request of any form. Columns and lists have an element for each candidate. */
export interface RankingBody extends BundleWish {
  readonly context: RawRow;
  readonly candidateCount: number;
  /** Keys of the candidates' adgroups, or their hashes. */
  readonly adgroups: TextsColumn | HashesColumn;
  /** The keys; null where there are hashes in their place, unless a catalog has them all. */
  keyTexts: () => readonly string[] | null;
  /** Columns that a candidate has, at least one of them; those of a catalog are added. */
  readonly features: Map<string, CandidateColumn>;
  /** Null where all are 1. */
  readonly bids: ArrayLike<number> | null;
  readonly pacings: ArrayLike<number> | null;
  readonly squash: number;
  readonly reserve: number;
  readonly seed: number | null;
  /** The lists that are asked for; null asks for all. */
  readonly fields: readonly AnswerField[] | null;
  /** Places that are shown, which exploration decides on; null where the request does not say. */
  readonly slots: number | null;
  /** True if the answer says what each feature adds to scores. */
  readonly explain: boolean;
  /** By place, why candidates are left out of the auction. */
  readonly dropped: Map<number, Refusal>;
}

const VALUE = `expected a text of at most ${TEXT_LENGTH_MAX} characters, a number, true, false, null or a list of at most ${LIST_LENGTH_MAX} of them`;

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isPlain(value: unknown): boolean {
  if (typeof value === 'string') return value.length <= TEXT_LENGTH_MAX;
  return value === null || typeof value === 'number' || typeof value === 'boolean';
}

function isValue(value: unknown): boolean {
  if (!Array.isArray(value)) return isPlain(value);
  return value.length <= LIST_LENGTH_MAX && value.every(isPlain);
}

/** Columns by name. One check for each column is cheaper than a schema for each value. */
function byColumn<Columns extends RawRow>(
  isRight: (value: unknown) => boolean,
  message: string,
): z.ZodType<Columns> {
  return z.custom<Columns>().superRefine((columns: unknown, context) => {
    if (!isObject(columns)) {
      context.addIssue({ code: 'custom', message: 'expected columns by name' });
      return;
    }
    const entries = Object.entries(columns);
    if (entries.length > COLUMNS_MAX)
      context.addIssue({ code: 'custom', message: `expected at most ${COLUMNS_MAX} columns` });
    const wrong = entries.find(([, value]) => !isRight(value));
    if (wrong !== undefined) context.addIssue({ code: 'custom', path: [wrong[0]], message });
  });
}

export const valuesByColumn = byColumn<RawRow>(isValue, VALUE);

/** Returns whether a value is a context of `commonFields`. */
function isContext(value: unknown): value is RawRow {
  if (!isObject(value)) return false;
  const own = Object.values(value);
  return own.length <= COLUMNS_MAX && own.every(isValue);
}

/** Returns whether a value is a seed of `commonFields`. */
function isSeed(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= SEED_MAX;
}

type ValueList = readonly unknown[];

function isList(list: unknown): list is ValueList {
  return Array.isArray(list) && list.length <= CANDIDATES_MAX;
}

const keyPart = z.union([
  z.string().max(TEXT_LENGTH_MAX),
  z.int().transform((number) => String(number)),
]);
/** The key of an adgroup, its columns joined. */
export const adgroupKeySchema = z.union(
  [
    keyPart,
    z
      .array(keyPart)
      .min(1)
      .max(16)
      .transform((parts) => parts.join(KEY_SEPARATOR)),
  ],
  {
    error:
      'expected the key of an adgroup: a text, a whole number, or a list of the columns of the key',
  },
);
const bid = z.number().nonnegative().max(BID_MAX);
const pacing = z.number().nonnegative().max(BID_MAX);

/** A field that may be left out, and is null then. */
function orNull<Value>(schema: z.ZodType<Value>): z.ZodType<Value | null> {
  return schema.optional().transform((value) => value ?? null);
}

/** Fields that every form has. */
export const commonFields = {
  context: valuesByColumn.default({}),
  /** Exponent of the probability in the value of a candidate. */
  squash: z.number().nonnegative().max(10).default(1),
  /** Candidates of less value are not ranked. */
  reserve: z.number().nonnegative().max(BID_MAX).default(0),
  /** Breaks ties. */
  seed: orNull(z.int().min(0).max(SEED_MAX)),
  fields: orNull(z.array(z.enum(ANSWER_FIELDS)).max(ANSWER_FIELDS.length)),
  slots: orNull(z.int().min(1).max(SLOTS_MAX)),
  bundle: orNull(BundleDigestSchema),
  /** Requests of one key are answered by one bundle while there is a canary. */
  requestKey: orNull(z.string().min(1).max(TEXT_LENGTH_MAX)),
  explain: z.boolean().default(false),
};

const CandidateSchema = z.strictObject({
  adgroup: adgroupKeySchema,
  features: valuesByColumn.default({}),
  bid: bid.default(1),
  pacing: pacing.default(1),
});

const CandidatesSchema = z.strictObject({
  ...commonFields,
  candidates: z.array(z.unknown()).max(CANDIDATES_MAX),
});

const LIST = `expected a list of at most ${CANDIDATES_MAX} values`;
const list = z.custom<ValueList>(isList, LIST);

const ColumnsSchema = z.strictObject({
  ...commonFields,
  candidates: z.strictObject({
    ...{ adgroup: list, bid: list.optional(), pacing: list.optional() },
    features: byColumn<Readonly<Record<string, ValueList>>>(isList, LIST).default({}),
  }),
});

/** Stands where a candidate is dropped. */
const NO_CANDIDATE: z.output<typeof CandidateSchema> = {
  ...{ adgroup: '', features: {}, bid: 0, pacing: 0 },
};

/** @throws RefusedRequest if the bytes are not such a body. */
export function parseRankingBody(bytes: Uint8Array): RankingBody {
  const content = jsonOf(bytes);
  if (!isObject(content))
    throw new RefusedRequest({ reason: 'wrong-value', what: 'the body is not an object' });
  if (isObject(content['candidates'])) {
    const { candidates, ...common } = parseWith(ColumnsSchema, content);
    const { context, seed } = common;
    const features = Object.entries(candidates.features);
    const arrays = new CandidateArrays(NO_BYTES, 0, candidates.adgroup.length);
    return arrays.bodyOf({ context, seed, shared: common }, { ...candidates, features });
  }
  const { candidates: sent, ...common } = parseWith(CandidatesSchema, content);
  const dropped: RankingBody['dropped'] = new Map();
  const candidates = sent.map((candidate, place) => {
    try {
      return parseWith(CandidateSchema, candidate);
    } catch (error) {
      if (!(error instanceof RefusedRequest)) throw error;
      dropped.set(place, { ...error.refusal, where: `candidates.${place}` });
      return NO_CANDIDATE;
    }
  });
  const columns = new Map<string, unknown[]>();
  for (const [candidate, { features }] of candidates.entries())
    for (const [name, value] of Object.entries(features)) {
      let column = columns.get(name);
      if (column === undefined) {
        column = new Array<unknown>(candidates.length).fill(undefined);
        columns.set(name, column);
      }
      column[candidate] = value;
    }
  return {
    ...common,
    ...textKeys(candidates.map((each) => each.adgroup)),
    candidateCount: candidates.length,
    features: new Map([...columns].map(([name, values]) => [name, { form: 'values', values }])),
    bids: candidates.map((each) => each.bid),
    pacings: candidates.map((each) => each.pacing),
    dropped,
  };
}

function textKeys(keys: readonly string[]): Pick<RankingBody, 'adgroups' | 'keyTexts'> {
  return { adgroups: columnOfTexts(keys), keyTexts: () => keys };
}

const REMEMBERED_MAX = 256;
/** In characters of JSON. Longer fields are lists of values, which differ from request to request. */
const REMEMBERED_LENGTH_MAX = 2_048;
/** Longer texts are not looked up: they may be nested too deeply to be written as a key. */
const READ_BYTE_COUNT_MAX = 4_096;

/** Fields that every form has, as a body has them. */
type CommonOfBody = z.output<z.ZodObject<typeof commonFields>>;

interface ReadFields<Fields> extends Pick<RankingBody, 'context' | 'seed'> {
  /** All requests that have these fields share them, so they must not be changed. Their context and seed are those of one. */
  readonly shared: Fields;
}

/** Takes field by field: objects that are made by spreads take a tenth of a request more. */
function bodyOf(
  { context, seed, shared }: ReadFields<CommonOfBody>,
  candidates: Omit<RankingBody, keyof CommonOfBody>,
): RankingBody {
  const { squash, reserve, explain, bundle, slots, requestKey, fields } = shared;
  const { candidateCount, adgroups, keyTexts, features, bids, pacings, dropped } = candidates;
  // prettier-ignore
  return {
    context, seed, squash, reserve, explain, bundle, slots, requestKey, fields,
    candidateCount, adgroups, keyTexts, features, bids, pacings, dropped,
  };
}

/**
 * Returns a function that reads the fields of a body, and throws a RefusedRequest where the schema does. Requests of a client
 * differ in their context and seed alone. All other fields are checked once and remembered by their JSON, because
 * a schema takes longer for them than for all else that a request needs beside its scores.
 */
export function fieldsReader<Fields extends Pick<RankingBody, 'context' | 'seed'>>(
  schema: z.ZodType<Fields>,
): (bytes: Uint8Array) => ReadFields<Fields> {
  const remembered = new LruCache<string, Fields>({ countMax: REMEMBERED_MAX });
  return (bytes) => {
    const content = jsonOf(bytes);
    let key = '';
    if (isObject(content) && bytes.length <= READ_BYTE_COUNT_MAX) {
      const { context = {}, seed = 0, ...others } = content;
      key = JSON.stringify(others);
      const shared = remembered.get(key);
      if (shared !== undefined && isContext(context) && isSeed(seed))
        return { context, seed: content['seed'] === undefined ? null : seed, shared };
    }
    const shared = parseWith(schema, content);
    if (key !== '' && key.length <= REMEMBERED_LENGTH_MAX) remembered.put(key, shared);
    const { context, seed } = shared;
    return { context, seed, shared };
  };
}

/** Texts and numbers of a body; `JSON.parse` reads one with more. */
const ELEMENTS_MAX = 2 ** 18;
const SCANNED_COLUMNS_MAX = Math.floor(ELEMENTS_MAX / CANDIDATES_MAX);
/** The words of a column, and those before the first one: `native/columns.cc`. */
const WORDS_PER_COLUMN = 7;
const HEAD_WORDS = 3;
/** The numbers that `native/columns.cc` has. */
const FORM = { texts: 1, numbers: 2 } as const;

const readFields = fieldsReader(z.strictObject({ ...commonFields, candidates: z.tuple([]) }));

const NO_CANDIDATES = Buffer.from('[]');

export class BodyScanner {
  readonly addon: Pick<ColumnsAddon, 'scanBody'>;
  readonly #words = new Int32Array(HEAD_WORDS + WORDS_PER_COLUMN * SCANNED_COLUMNS_MAX);
  readonly #spans = new Uint32Array(2 * ELEMENTS_MAX);
  readonly #numbers = new Float64Array(ELEMENTS_MAX);
  #written = Buffer.alloc(0);

  constructor(addon: Pick<ColumnsAddon, 'scanBody'>) {
    this.addon = addon;
  }

  /** Null for a body that `parseRankingBody` must parse or refuse. Valid until the next is scanned. */
  scan(body: Buffer): RankingBody | null {
    if (!isUtf8(body)) return null;
    // Lists are somewhat longer than their values.
    if (this.#written.length < 2 * body.length)
      this.#written = Buffer.allocUnsafeSlow(2 * body.length);
    const found = [this.#words, this.#spans, this.#numbers, this.#written] as const;
    // A text has no more characters than bytes.
    const count = this.addon.scanBody(body, ...found, TEXT_LENGTH_MAX, CANDIDATES_MAX);
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
    const dropped = new Map<number, Refusal>();
    return bodyOf(fields, { candidateCount, adgroups, keyTexts, features, bids, pacings, dropped });
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
    if (!isList(values) || !values.every(isValue) || values.length !== count) return null;
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

export const BINARY_TYPE = 'application/vnd.qianmo.ranking';

export const LENGTH_BYTE_COUNT = 4;
const ALIGNMENT = 8;

export function alignUp(place: number): number {
  return Math.ceil(place / ALIGNMENT) * ALIGNMENT;
}

const ARRAYS = { float64: Float64Array, float32: Float32Array, int32: Int32Array } as const;
const AMOUNTS = ['float64', 'float32'] as const;
const FEATURES = ['text', 'id', 'float64', 'float32', 'int32'] as const;

/** Columns of candidates: the types of their arrays, or the values themselves, for bags for example. */
interface BodyColumns {
  /** Keys, or their 64-bit hashes (`key-index.ts`). */
  readonly adgroup: 'hash' | 'text' | ValueList;
  readonly bid?: (typeof AMOUNTS)[number] | ValueList | undefined;
  readonly pacing?: (typeof AMOUNTS)[number] | ValueList | undefined;
  readonly features: readonly (readonly [string, (typeof FEATURES)[number] | ValueList])[];
}

const values = z.custom<ValueList>(isList, 'expected a type, or a list of values');
const HeaderSchema = z.strictObject({
  ...commonFields,
  count: z.int().min(0).max(CANDIDATES_MAX),
  columns: z.strictObject({
    adgroup: z.union([z.enum(['hash', 'text']), values]),
    bid: z.union([z.enum(AMOUNTS), values]).optional(),
    pacing: z.union([z.enum(AMOUNTS), values]).optional(),
    features: z
      .array(z.tuple([z.string(), z.union([z.enum(FEATURES), values])]))
      .max(COLUMNS_MAX)
      .default([]),
  }),
});

const readHeader = fieldsReader(HeaderSchema);

/** @throws RefusedRequest if the bytes are no such request. */
export function parseBinaryBody(received: Buffer): RankingBody {
  // Arrays are read where they lie.
  const body = received.byteOffset % 8 === 0 ? received : Buffer.from(new Uint8Array(received));
  const headerEnd =
    body.length < LENGTH_BYTE_COUNT ? Infinity : LENGTH_BYTE_COUNT + body.readUInt32LE(0);
  if (headerEnd > body.length)
    throw malformedBody(
      'the header ends behind the body',
      'a length of the header, then the header',
    );
  const header = readHeader(body.subarray(LENGTH_BYTE_COUNT, headerEnd));
  const { count, columns, bundle } = header.shared;
  if (bundle === null && columns.features.some(([, type]) => type === 'id'))
    throw malformedBody('ids, and no bundle', 'the bundle whose dictionaries they are of');
  return new CandidateArrays(body, headerEnd, count).bodyOf(header, columns);
}

const NO_BYTES = Buffer.alloc(0);

/** Reads columns in their order. */
class CandidateArrays {
  readonly #body: Buffer;
  readonly #count: number;
  readonly #dropped: RankingBody['dropped'] = new Map();
  #end: number;

  constructor(body: Buffer, start: number, count: number) {
    this.#body = body;
    this.#end = start;
    this.#count = count;
  }

  bodyOf(fields: ReadFields<CommonOfBody>, columns: BodyColumns): RankingBody {
    const keys = this.#keys(columns.adgroup);
    const bids = this.#amounts('bid', columns.bid);
    const pacings = this.#amounts('pacing', columns.pacing);
    const features = new Map<string, CandidateColumn>();
    for (const [name, type] of columns.features) {
      if (features.has(name))
        throw malformedBody(`the column "${name}" is there twice`, 'each once');
      features.set(name, this.#column(name, type));
    }
    this.#demandEnd();
    const [candidateCount, dropped] = [this.#count, this.#dropped];
    return bodyOf(fields, { ...keys(), candidateCount, bids, pacings, features, dropped });
  }

  /** Returns a function to be called once all columns are read: candidates that are dropped have no key. */
  #keys(type: BodyColumns['adgroup']): () => Pick<RankingBody, 'adgroups' | 'keyTexts'> {
    if (type === 'hash') {
      const start = this.#taken(8 * this.#count, 'adgroup');
      const words = this.#view(Uint32Array, start, 2 * this.#count);
      return () => ({ adgroups: { form: 'hashes', words }, keyTexts: () => null });
    }
    if (type === 'text') {
      const adgroups = this.#texts('adgroup', false);
      // Texts that may be empty, but not null, are strings.
      return () => ({ adgroups, keyTexts: () => valuesOf(adgroups) as readonly string[] });
    }
    const keys = this.#listed('adgroup', type).map((value, place) => {
      const isText = typeof value === 'string' && value.length <= TEXT_LENGTH_MAX;
      const key = isText ? value : adgroupKeySchema.safeParse(value).data;
      if (key !== undefined) return key;
      this.#drop(place, 'adgroup', 'a text or a whole number, or a list of them', value);
      return '';
    });
    return () => textKeys(keys.map((key, place) => (this.#dropped.has(place) ? '' : key)));
  }

  #amounts(name: 'bid' | 'pacing', type: BodyColumns['bid']): ArrayLike<number> | null {
    if (type === undefined) return null;
    const amounts =
      typeof type === 'string'
        ? this.#numbers(name, type)
        : Float64Array.from(this.#listed(name, type), (value) =>
            typeof value === 'number' ? value : NaN,
          );
    for (let place = 0; place < amounts.length; place += 1) {
      const amount = numberAt(amounts, place);
      if (!(amount >= 0 && amount <= BID_MAX))
        this.#drop(place, name, `a number from 0 to ${BID_MAX}`, amount);
    }
    return amounts;
  }

  #column(name: string, type: BodyColumns['features'][number][1]): CandidateColumn {
    if (type === 'text') return this.#texts(name, true);
    if (type === 'id') {
      const start = this.#taken(Int32Array.BYTES_PER_ELEMENT * this.#count, name);
      return { form: 'ids', ids: this.#view(Int32Array, start, this.#count) };
    }
    if (typeof type === 'string') return { form: 'numbers', numbers: this.#numbers(name, type) };
    for (const [place, value] of this.#listed(name, type).entries())
      if (!isValue(value)) this.#drop(place, `features.${name}`, VALUE, value);
    return { form: 'values', values: type };
  }

  #listed(name: string, listed: ValueList): ValueList {
    if (listed.length === this.#count) return listed;
    throw malformedBody(`${listed.length} values of "${name}"`, `${this.#count}, as adgroups`);
  }

  #drop(place: number, name: string, expected: string, found: unknown): void {
    this.#dropped.set(place, {
      ...{ reason: 'wrong-value', what: `the candidate has a wrong ${name}` },
      ...{
        where: `candidates.${place}.${name}`,
        expected,
        found: JSON.stringify(found).slice(0, 100),
      },
    });
  }

  #numbers(name: string, type: keyof typeof ARRAYS): Float64Array | Float32Array | Int32Array {
    const start = this.#taken(ARRAYS[type].BYTES_PER_ELEMENT * this.#count, name);
    return this.#view<Float64Array | Float32Array | Int32Array>(ARRAYS[type], start, this.#count);
  }

  /** @param emptyIsNull an empty text is an empty value. */
  #texts(name: string, emptyIsNull: boolean): TextsColumn {
    const count = this.#count;
    const offsets = this.#view(Uint32Array, this.#taken(4 * (count + 1), name), count + 1);
    const byteCount = uint32At(offsets, count);
    const first = this.#end;
    if (first + byteCount > this.#body.length) throw this.#tooShort(name);
    this.#end = first + byteCount;
    const bytes = this.#body.subarray(first, this.#end);
    if (!isUtf8(bytes)) throw malformedBody(`the column "${name}" is not UTF-8`, 'texts in UTF-8');
    const spans = new Uint32Array(2 * count);
    let end = 0;
    for (let place = 0; place < count; place += 1) {
      const start = uint32At(offsets, place);
      const next = uint32At(offsets, place + 1);
      if (start !== end || next < start || next - start > TEXT_LENGTH_MAX || splits(bytes, next))
        throw malformedBody(
          `text ${place} of the column "${name}" ends at ${next}`,
          `offsets of whole texts of at most ${TEXT_LENGTH_MAX} bytes, from 0 on`,
        );
      const isNull = emptyIsNull && next === start;
      spans[2 * place] = isNull ? NULL_START : start;
      spans[2 * place + 1] = isNull ? NULL_START : next;
      end = next;
    }
    return { form: 'texts', bytes, spans };
  }

  #demandEnd(): void {
    if (alignUp(this.#end) === alignUp(this.#body.length)) return;
    throw malformedBody(
      `the body has ${this.#body.length} bytes`,
      `${this.#end}, as many as the arrays of the header have`,
    );
  }

  #taken(byteCount: number, name: string): number {
    const start = alignUp(this.#end);
    this.#end = start + byteCount;
    if (this.#end > this.#body.length) throw this.#tooShort(name);
    return start;
  }

  #view<Values>(
    array: new (buffer: ArrayBufferLike, byteOffset: number, length: number) => Values,
    start: number,
    length: number,
  ): Values {
    return new array(this.#body.buffer, this.#body.byteOffset + start, length);
  }

  #tooShort(name: string): RefusedRequest {
    return malformedBody(
      `the body ends within the column "${name}"`,
      `arrays of ${this.#count} candidates`,
    );
  }
}

/** Returns whether a text that ends there ends within a character. */
function splits(bytes: Uint8Array, end: number): boolean {
  return end < bytes.length && (uint8At(bytes, end) & 0xc0) === 0x80;
}

function malformedBody(found: string, expected: string): RefusedRequest {
  return refusalOf('malformed', 'the columns of the body are not as they must be', {
    ...{ expected, found },
    cure: 'infra/docs/serving.md describes the layout',
  });
}
