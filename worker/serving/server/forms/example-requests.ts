/** Requests that the bundle in use answers, for the description of the server. */

import { uint32At } from '../../../../shared/base/arrays.js';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { FeatureEncoder } from '../../../../shared/features/row-encoder.js';
import { KEY_SEPARATOR } from '../ranking-body.js';
import type { ServedBundle } from '../served-bundle.js';

type Example = Readonly<Record<string, unknown>>;

/** What a column may hold, whatever its type; a text of a dictionary is tried first. */
const VALUES: readonly unknown[] = [[], 1, 'a text', '2024-01-31 12:00:00', '2024-01-31', true];

/** One value for each column that the features read. Null where a feature is computed from several. */
export function exampleColumns({ loaded }: ServedBundle): Example | null {
  const { encoder, manifest } = loaded;
  const columns = new Map<string, unknown>();
  for (const { column } of encoder.features) {
    if (column === null) return null;
    if (manifest.taskColumns.includes(column) || columns.has(column)) continue;
    const readers = encoder.features.filter((feature) => feature.column === column);
    const texts = readers.flatMap((feature) => textOf(feature) ?? []);
    const fits = (value: unknown): boolean => readers.every((reader) => isTaken(reader, value));
    const found = [...texts, ...VALUES].find(fits);
    if (found === undefined) return null;
    columns.set(column, found);
  }
  return Object.fromEntries(columns);
}

/** The key of the first adgroup, and one that the bundle does not know. */
export function exampleKeys({ loaded }: ServedBundle): readonly [known: unknown, unknown: unknown] {
  const { manifest, index } = loaded;
  const [start, end] = [uint32At(index.keyOffsets, 1), uint32At(index.keyOffsets, 2)];
  const { buffer, byteOffset } = index.keyBytes;
  const text = Buffer.from(buffer, byteOffset + start, end - start).toString();
  if (manifest.taskColumns.length === 1) return [text, 'a new adgroup'];
  return [text.split(KEY_SEPARATOR), manifest.taskColumns.map(() => 'new')];
}

/** For `/v1/rank` and `/v1/score`. */
export function exampleRanking(bundle: ServedBundle): Example {
  const context = exampleColumns(bundle);
  if (context === null) return { candidates: [] };
  const [known, fresh] = exampleKeys(bundle);
  const candidates = [
    { adgroup: known, bid: 0.8 },
    { adgroup: fresh, bid: 1.1 },
  ];
  return { context, candidates };
}

/** The text of the first id of a value. */
function textOf({ dictionary }: FeatureEncoder): string | null {
  if (dictionary === null || dictionary.offsets.length < 3) return null;
  const { bytes, offsets } = dictionary;
  const [start, end] = [uint32At(offsets, 1), uint32At(offsets, 2)];
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString();
}

function isTaken(
  { kind, placeCount, encode, pick, column }: FeatureEncoder,
  value: unknown,
): boolean {
  const row = { [column ?? '']: value };
  const target = kind === 'number' ? new Float32Array(1) : new Int32Array(placeCount);
  try {
    encode(pick(row, row), target, 0);
    return true;
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    return false;
  }
}
