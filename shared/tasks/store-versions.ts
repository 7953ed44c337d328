/**
 * A task store and the stores that it was before logs were appended to it. Ids of values and all rows of
 * the earlier ones are in it; rows of tables follow for values that came later.
 */

import type { EncodedFeature, StoreManifest } from './store-manifest.js';
import type { TaskEntry, TaskStore } from './task-store.js';

/** The features as the store of this digest had them; null if it never had that digest. */
export function featuresAt(
  { manifest, digest }: Pick<TaskStore, 'manifest' | 'digest'>,
  wanted: string,
): EncodedFeature[] | null {
  if (wanted === digest) return manifest.features;
  const append = manifest.appends?.find(({ earlierDigest }) => earlierDigest === wanted);
  if (append === undefined) return null;
  return manifest.features.map((feature) => {
    const rowCount = append.earlierRowCounts[feature.name];
    return feature.kind === 'number' || rowCount === undefined ? feature : { ...feature, rowCount };
  });
}

/** Tells which tasks have rows that the store of this digest had not; null if it never had that digest. */
export function changedSince(
  { manifest, digest }: Pick<TaskStore, 'manifest' | 'digest'>,
  wanted: string,
): ((task: TaskEntry) => boolean) | null {
  const appends = manifest.appends ?? [];
  const known =
    wanted === digest
      ? appends.length
      : appends.findIndex(({ earlierDigest }) => earlierDigest === wanted);
  return known < 0 ? null : ({ changedIn = 0 }) => changedIn > known;
}

/** Rows of the tables of features with a dictionary. */
export function dictionaryRowCounts({
  features,
}: Pick<StoreManifest, 'features'>): Record<string, number> {
  return Object.fromEntries(
    features.flatMap((feature) =>
      feature.kind !== 'number' && feature.encoding.by === 'dictionary'
        ? [[feature.name, feature.rowCount]]
        : [],
    ),
  );
}
