/** Columns of candidates as a body has them: values, or texts, numbers, hashes and ids where they lie. */

import { uint32At, numberAt } from '../../shared/base/arrays.js';

/** Values as JSON holds them; undefined where a candidate lacks the column. */
interface ValuesColumn {
  readonly form: 'values';
  readonly values: readonly unknown[];
}

/** Texts in UTF-8, where they lie in a body. */
export interface TextsColumn {
  readonly form: 'texts';
  readonly bytes: Uint8Array;
  /** `[count, 2]`: where each text begins and ends; `NULL_START` begins an empty value. */
  readonly spans: Uint32Array;
}

/** NaN is an empty value. */
interface NumbersColumn {
  readonly form: 'numbers';
  readonly numbers: Float64Array | Float32Array | Int32Array;
}

/** Hashes of texts (`key-index.ts`) in place of the texts. */
export interface HashesColumn {
  readonly form: 'hashes';
  /** `[count, 2]`: low and high word. */
  readonly words: Uint32Array;
}

/** Ids of a dictionary's values in place of the values. */
interface IdsColumn {
  readonly form: 'ids';
  readonly ids: Int32Array;
}

export type CandidateColumn = ValuesColumn | TextsColumn | NumbersColumn | HashesColumn | IdsColumn;

export const NULL_START = 0xffffffff;
/** Begins a value that a candidate does not have, in what the addon takes apart alone. */
export const MISSING_START = 0xfffffffe;

/** Values of all candidates or of some as JSON holds them; null if something stands in their place. */
export function valuesOf(
  column: CandidateColumn,
  places?: readonly number[],
): readonly unknown[] | null {
  switch (column.form) {
    case 'values':
      return places?.map((place) => column.values[place]) ?? column.values;
    case 'texts':
      return textsOf(column, places);
    case 'numbers': {
      const numbers = places?.map((place) => numberAt(column.numbers, place)) ?? column.numbers;
      return Array.from(numbers, (value) => (Number.isNaN(value) ? null : value));
    }
    case 'hashes':
    case 'ids':
      return null;
  }
}

function textsOf(
  { bytes, spans }: TextsColumn,
  places: readonly number[] = Array.from({ length: spans.length / 2 }, (_, place) => place),
): readonly (string | null)[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return places.map((place) => {
    const start = uint32At(spans, 2 * place);
    const end = uint32At(spans, 2 * place + 1);
    return start === NULL_START ? null : buffer.toString('utf8', start, end);
  });
}

export function columnOfTexts(texts: readonly string[]): TextsColumn {
  const spans = new Uint32Array(2 * texts.length);
  let byteCount = 0;
  for (const text of texts) byteCount += Buffer.byteLength(text);
  const bytes = Buffer.allocUnsafe(byteCount);
  let end = 0;
  for (const [place, text] of texts.entries()) {
    spans[2 * place] = end;
    end += bytes.write(text, end);
    spans[2 * place + 1] = end;
  }
  return { form: 'texts', bytes, spans };
}

/** Returns whether two texts of a column are the same, byte by byte. */
export function isSameText({ bytes, spans }: TextsColumn, first: number, second: number): boolean {
  const [a, b] = [numberAt(spans, 2 * first), numberAt(spans, 2 * second)];
  const length = numberAt(spans, 2 * first + 1) - a;
  if (numberAt(spans, 2 * second + 1) - b !== length) return false;
  for (let place = 0; place < length; place += 1)
    if (bytes[a + place] !== bytes[b + place]) return false;
  return true;
}
