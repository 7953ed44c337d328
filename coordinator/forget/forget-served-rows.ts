/**
 * Takes rows out of the row logs of servers. Feedback names a place of a ranking by its number, so the place stays, without
 * adgroup and values, and its feedback goes: without an impression it is a row for nobody. Files keep their names, by which task
 * stores and `refresh` know them.
 */

import type { z } from 'zod';
import { RowLineSchema } from '../../shared/config/row-record.js';
import { gunzipSync, gzipSync } from 'node:zlib';
import { joinAddress, type ObjectStore } from '../../shared/storage/object-store.js';
import { changedMeanwhile, type FileToRewrite, type Forgotten } from './forget-logs.js';

type Line = z.output<typeof RowLineSchema>;
type Ranking = Extract<Line, { kind: 'ranking' }>;

/** The adgroup of an emptied place. An interrupted call knows by it whose feedback must go. */
const EMPTIED = '(forgotten)';

/** The files of a row log that must be written again. Reads all of them before, since feedback lies in later files. */
export async function servedRowsToRewrite(
  { store, keys }: { readonly store: ObjectStore; readonly keys: readonly string[] },
  forgotten: Forgotten,
): Promise<FileToRewrite[]> {
  const places = new Set<string>();
  for (const key of keys)
    for (const line of (await textOf(store, key)).text.split('\n')) {
      const read = readLine(line);
      if (read?.kind !== 'ranking') continue;
      for (const [index, adgroup] of adgroupsOf(read).entries())
        if (adgroup === EMPTIED || isOf(read, index, forgotten))
          places.add(placeOf(read.id, index + 1));
    }
  const found: FileToRewrite[] = [];
  for (const key of keys) {
    const { rowCount } = withoutRows((await textOf(store, key)).text, places, forgotten);
    if (rowCount === 0) continue;
    const name = joinAddress(store.address, key);
    const rewrite = async (): Promise<void> => {
      const { text, etag } = await textOf(store, key);
      const kept = gzipSync(withoutRows(text, places, forgotten).text);
      if ((await store.put(key, kept, { kind: 'unchanged', etag })) === null)
        throw changedMeanwhile(name);
    };
    found.push({ name, rowCount, rewrite });
  }
  return found;
}

async function textOf(store: ObjectStore, key: string): Promise<{ text: string; etag: string }> {
  const object = await store.get(key);
  if (object === null) throw changedMeanwhile(joinAddress(store.address, key));
  return { text: gunzipSync(object.bytes).toString('utf8'), etag: object.etag };
}

function readLine(line: string): Line | null {
  try {
    return RowLineSchema.safeParse(JSON.parse(line)).data ?? null;
  } catch {
    // It stays, and is searched for traces like everything.
    return null;
  }
}

const placeOf = (decision: string, slot: number): string => `${decision} ${slot}`;
const adgroupsOf = ({ shown }: Ranking): readonly unknown[] => shown['adgroup'] ?? [];

function isOf({ shown, features, context }: Ranking, index: number, forgotten: Forgotten): boolean {
  const { column, value, isAdgroup } = forgotten;
  if (isAdgroup) return shown['adgroup']?.[index] === value;
  const found = column in features ? features[column]?.[index] : context[column];
  return found !== undefined && typeof found !== 'object' && String(found) === value;
}

/** The text of a file without the rows, and the number of lines that have changed. */
function withoutRows(
  text: string,
  places: ReadonlySet<string>,
  forgotten: Forgotten,
): { readonly text: string; readonly rowCount: number } {
  let rowCount = 0;
  const lines = text.split('\n').map((line) => {
    const read = readLine(line);
    const kept =
      read?.kind === 'ranking'
        ? emptied(read, forgotten)
        : read?.kind === 'feedback'
          ? withoutFeedback(read, places)
          : read;
    if (kept === read) return line;
    rowCount += 1;
    return JSON.stringify(kept);
  });
  return { text: lines.join('\n'), rowCount };
}

/** The ranking itself if nothing of it is to be forgotten. A decision about such candidates cannot be replayed, and goes. */
function emptied(ranking: Ranking, forgotten: Forgotten): Ranking {
  const { shown, features, context, decision } = ranking;
  const adgroups = adgroupsOf(ranking);
  const gone = adgroups.map((_, index) => isOf(ranking, index, forgotten));
  const isCandidate =
    forgotten.isAdgroup &&
    [...(decision?.candidates.adgroup ?? []), ...(decision?.decided?.['adgroup'] ?? [])].includes(
      forgotten.value,
    );
  if (!gone.includes(true) && !isCandidate) return ranking;
  const nulled = Object.entries(features).map(([name, values]) => [
    name,
    values.map((value, index) => (gone[index] === true ? null : value)),
  ]);
  const adgroup = adgroups.map((name, index) => (gone[index] === true ? EMPTIED : name));
  return {
    ...ranking,
    context: gone.includes(false) || !gone.includes(true) ? context : {},
    shown: { ...shown, adgroup },
    features: Object.fromEntries(nulled) as Ranking['features'],
    decision: null,
  };
}

function withoutFeedback(
  feedback: Extract<Line, { kind: 'feedback' }>,
  places: ReadonlySet<string>,
): Line {
  const { decision, slot, reward, value, epochMs } = feedback;
  const isKept = decision.map((id, index) => !places.has(placeOf(id, slot[index] ?? 0)));
  if (!isKept.includes(false)) return feedback;
  const kept = <Value>(values: readonly Value[]): Value[] =>
    values.filter((_, index) => isKept[index]);
  return {
    ...{ kind: 'feedback', decision: kept(decision), slot: kept(slot), reward: kept(reward) },
    ...{ value: kept(value), epochMs: kept(epochMs) },
  };
}
