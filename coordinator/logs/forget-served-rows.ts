/**
 * Takes rows out of the row logs of servers. Feedback names a place of a ranking by its number, so the place stays, without adgroup
 * and values, and its feedback goes: without an impression it is no row. Files keep their names, by which task stores know them.
 */

import { gunzipSync, gzipSync } from 'node:zlib';
import type { z } from 'zod';
import { LineSchema } from '../../shared/config/row-record.js';
import { joinAddress, type ObjectStore } from '../../shared/storage/object-store.js';
import { changedMeanwhile, type FileToRewrite, type Forgotten } from './forget-rows.js';

type Line = z.output<typeof LineSchema>;
type Ranking = Extract<Line, { kind: 'ranking' }>;

/** The adgroup of an emptied place. A call that goes on knows by it whose feedback must go. */
const EMPTIED = '(forgotten)';

/** The files of a row log that must be written again. All are read before, since feedback lies in later files. */
export async function servedRowsToRewrite(
  { store, keys }: { readonly store: ObjectStore; readonly keys: readonly string[] },
  forgotten: Forgotten,
): Promise<FileToRewrite[]> {
  const places = new Set<string>();
  for (const key of keys)
    for (const line of (await fileOf(store, key)).lines) {
      const read = readLine(line);
      if (read?.kind !== 'ranking') continue;
      for (const [index, adgroup] of adgroupsOf(read).entries())
        if (adgroup === EMPTIED || isOf(read, index, forgotten))
          places.add(`${read.id} ${index + 1}`);
    }
  const keptOf = (line: string): string => {
    const read = readLine(line);
    if (read === null || read.kind === 'settings') return line;
    const kept = read.kind === 'ranking' ? emptied(read, forgotten) : withoutFeedback(read, places);
    return kept === null ? line : JSON.stringify(kept);
  };
  const found: FileToRewrite[] = [];
  for (const key of keys) {
    const { lines } = await fileOf(store, key);
    const rowCount = lines.filter((line) => keptOf(line) !== line).length;
    if (rowCount === 0) continue;
    const name = joinAddress(store.address, key);
    const rewrite = async (): Promise<void> => {
      const { lines: latest, etag } = await fileOf(store, key);
      const bytes = gzipSync(latest.map(keptOf).join('\n'));
      if ((await store.put(key, bytes, { kind: 'unchanged', etag })) === null)
        throw changedMeanwhile(name);
    };
    found.push({ name, rowCount, rewrite });
  }
  return found;
}

async function fileOf(store: ObjectStore, key: string): Promise<{ lines: string[]; etag: string }> {
  const object = await store.get(key);
  if (object === null) throw changedMeanwhile(joinAddress(store.address, key));
  return { lines: gunzipSync(object.bytes).toString('utf8').split('\n'), etag: object.etag };
}

/** Null if it is no line of a row log. It stays, and is searched for traces like everything. */
function readLine(line: string): Line | null {
  try {
    return LineSchema.safeParse(JSON.parse(line)).data ?? null;
  } catch {
    return null;
  }
}

const adgroupsOf = ({ shown }: Ranking): readonly unknown[] => shown['adgroup'] ?? [];

function isOf({ shown, features, context }: Ranking, index: number, forgotten: Forgotten): boolean {
  const { column, value, isAdgroup } = forgotten;
  if (isAdgroup) return shown['adgroup']?.[index] === value;
  const found = column in features ? features[column]?.[index] : context[column];
  return typeof found === 'number' ? String(found) === value : found === value;
}

/** Null if nothing of it is to be forgotten. A decision about such candidates cannot be replayed, and goes. */
function emptied(ranking: Ranking, forgotten: Forgotten): object | null {
  const { shown, features, context, decision } = ranking;
  const adgroups = adgroupsOf(ranking);
  const gone = adgroups.map((_, index) => isOf(ranking, index, forgotten));
  const isDecided =
    forgotten.isAdgroup && JSON.stringify(decision ?? {}).includes(JSON.stringify(forgotten.value));
  if (!gone.includes(true) && !isDecided) return null;
  const without = (values: readonly unknown[], instead: string | null): unknown[] =>
    values.map((value, index) => (gone[index] === true ? instead : value));
  const kept = Object.entries(features).map(([name, values]) => [name, without(values, null)]);
  return {
    ...ranking,
    context: gone.every((isGone) => isGone) ? {} : context,
    shown: { ...shown, adgroup: without(adgroups, EMPTIED) },
    features: Object.fromEntries(kept) as object,
    decision: null,
  };
}

/** Null if it has none of the places. */
function withoutFeedback(
  { kind, ...events }: Extract<Line, { kind: 'feedback' }>,
  places: ReadonlySet<string>,
): object | null {
  const { decision, slot } = events;
  const gone = decision.map((id, index) => places.has(`${id} ${slot[index] ?? 0}`));
  if (!gone.includes(true)) return null;
  const keptOf = (values: readonly unknown[]): unknown[] => values.filter((_, at) => !gone[at]);
  const kept = Object.entries(events).map(([name, values]) => [name, keptOf(values)]);
  return { kind, ...(Object.fromEntries(kept) as object) };
}
