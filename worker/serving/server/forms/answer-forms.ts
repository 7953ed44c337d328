/** Answers as JSON and in binary (`binary-body.ts`), written straight to bytes. */

import type { ColumnsAddon } from '../../columns/native-columns.js';
import { JSON_TYPE, type Answer } from '../endpoint.js';
import type { ServedBundle } from '../served-bundle.js';
import type { AnswerExplanation } from './answer-explanation.js';
import type { AnswerList, ListValues } from './answer-lists.js';
import { aligned, BINARY_TYPE, LENGTH_BYTE_COUNT } from './binary-body.js';

interface AnswerContent {
  readonly bundle: ServedBundle;
  readonly lists: readonly AnswerList[];
  /** Undefined for an answer without an order. */
  readonly seed: number | null | undefined;
  /** Undefined where the bundle is the one in use. */
  readonly canary: true | undefined;
  /** Undefined for an answer without one. */
  readonly explanation?: AnswerExplanation | undefined;
  /** How the order was explored, where the server explores; null if its state did not work. */
  readonly exploration?: object | null;
}

type WriteNumbers = ColumnsAddon['writeNumbers'];

/** Bytes of a number and the comma behind it, at most. */
const NUMBER_BYTE_COUNT_MAX = 33;
const TYPES = new Map<unknown, string>([
  [Float64Array, 'float64'],
  [Float32Array, 'float32'],
  [Int32Array, 'int32'],
]);

/** The list whose values are places among the names of segments. */
const SEGMENTS = 'segments';

let room = Buffer.alloc(0);

/** An object with a list for each field; `evidence` has one for each of its parts. */
export function jsonAnswerOf(answered: AnswerContent): Answer {
  const { bundle, lists, seed, explanation, canary, exploration } = answered;
  const { addon } = bundle.choice;
  const writeNumbers: WriteNumbers =
    addon === null ? plainNumbers : (values, out, end) => addon.writeNumbers(values, out, end);
  const segments = lists.some(({ name }) => name === SEGMENTS) ? segmentTexts(bundle) : [];
  const longest = segments.reduce(
    (most, text) => Math.max(most, 3 * text.length + 1),
    NUMBER_BYTE_COUNT_MAX,
  );
  // What is undefined is left out.
  const head = JSON.stringify({ bundle: bundle.digest, seed, explanation, canary, exploration });
  let byteCount = 3 * head.length + 8;
  for (const { values } of lists) byteCount += values.length * longest + 64;
  if (room.length < byteCount) room = Buffer.allocUnsafeSlow(byteCount);
  // Without its brace.
  let end = room.write(head) - 1;
  let isInEvidence = false;
  for (const { name, values } of lists) {
    const [field = name, part] = name.split('.');
    if (part !== undefined && !isInEvidence) end += room.write(`,"${field}":{"${part}":[`, end);
    else end += room.write(`,"${part ?? field}":[`, end);
    isInEvidence = part !== undefined;
    end =
      name === SEGMENTS
        ? end + room.write(segmentList(values, segments), end)
        : writeNumbers(values, room, end);
    room[end] = 0x5d;
    end += 1;
  }
  end += room.write(isInEvidence ? '}}' : '}', end);
  return { mediaType: JSON_TYPE, content: room.subarray(0, end), isPassing: true };
}

/** The name of each segment in JSON, by the place of its label. */
function segmentTexts({ loaded }: ServedBundle): readonly string[] {
  return loaded.manifest.labels.map(({ segment }) => JSON.stringify(segment));
}

function segmentList(labels: ListValues, segments: readonly string[]): string {
  let text = '';
  for (const label of labels) text += `${text === '' ? '' : ','}${segments[label] ?? 'null'}`;
  return text;
}

function plainNumbers(values: ListValues, out: Uint8Array, end: number): number {
  const texts = Array.from(values, (value) => (Number.isFinite(value) ? String(value) : 'null'));
  return end + Buffer.from(out.buffer, out.byteOffset, out.byteLength).write(texts.join(','), end);
}

/** The header names the arrays: `[["order", "int32", 500], ...]`, and the segments that -1 and places stand for. */
export function binaryAnswerOf(answered: AnswerContent): Answer {
  const { lists } = answered;
  const header = headerOf(answered);
  let byteCount = LENGTH_BYTE_COUNT + header.length;
  for (const { values } of lists) byteCount = aligned(byteCount) + values.byteLength;
  if (room.length < byteCount) room = Buffer.allocUnsafeSlow(byteCount);
  room.writeUInt32LE(header.length, 0);
  let end = LENGTH_BYTE_COUNT + header.copy(room, LENGTH_BYTE_COUNT);
  for (const { values } of lists) {
    const start = aligned(end);
    room.fill(0, end, start);
    room.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), start);
    end = start + values.byteLength;
  }
  return { mediaType: BINARY_TYPE, content: room.subarray(0, end), isPassing: true };
}

/** The last header that tells of its lists alone; the next answers have the same, most often. */
let lastHeader = { shape: '', bytes: Buffer.alloc(0) };

function headerOf(answered: AnswerContent): Buffer {
  const { bundle, lists, seed, canary, explanation, exploration } = answered;
  const tellsMore = canary !== undefined || explanation !== undefined || exploration !== undefined;
  let shape = `${bundle.digest} ${seed}`;
  for (const { name, values } of lists) shape += ` ${name} ${values.length}`;
  if (!tellsMore && lastHeader.shape === shape) return lastHeader.bytes;
  const hasSegments = lists.some(({ name }) => name === SEGMENTS);
  const header = JSON.stringify({
    ...{ bundle: bundle.digest, seed, explanation, canary, exploration },
    lists: lists.map(({ name, values }) => [name, TYPES.get(values.constructor), values.length]),
    ...(hasSegments
      ? { segments: bundle.loaded.manifest.labels.map(({ segment }) => segment) }
      : {}),
  });
  const bytes = Buffer.from(header);
  if (!tellsMore) lastHeader = { shape, bytes };
  return bytes;
}
