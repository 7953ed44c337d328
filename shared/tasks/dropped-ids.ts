/**
 * Id dropout: in training, ids of categories and members of bags are replaced at random by the id of unknown values,
 * so that the unknown row of a table learns what a new value is like. Coordinator and worker replace the same
 * ids, since both derive the row pack from them. A replacement depends on the seed, the outer step, the task, the
 * row and the feature alone.
 */

import { wordAt } from '../base/addressed-bits.js';
import { at } from '../base/arrays.js';
import { randomStream } from '../base/random.js';
import type { EncodedFeature } from './store-manifest.js';
import type { PlannedRows } from './task-store.js';

/** The id of unknown values in every table. */
const UNKNOWN_ID = 0;

/** The rate for all features with a table, or the rates by name; a feature without a rate keeps its ids. */
type IdDropoutRates = number | { readonly [feature: string]: number };

export interface IdDropout {
  readonly rates: IdDropoutRates;
  /** The seed of the run. */
  readonly seed: number;
  readonly outerStep: number;
}

/** Returns copies of the tasks where ids were replaced. Without dropout, the tasks themselves. */
export function withDroppedIds<
  Rows extends Pick<PlannedRows, 'taskIndex' | 'categoryIds' | 'bagIds'>,
>(
  tasks: readonly Rows[],
  features: readonly EncodedFeature[],
  dropout: IdDropout | null,
): readonly Rows[] {
  if (dropout === null) return tasks;
  const { rates, seed, outerStep } = dropout;
  const rateOf = ({ name }: EncodedFeature): number =>
    typeof rates === 'number' ? rates : (rates[name] ?? 0);
  const categories = features.filter(({ kind }) => kind === 'category');
  const bags = features.filter((feature) => feature.kind === 'bag');
  return tasks.map((task) => {
    const keys = randomStream(seed, 'id dropout', outerStep, task.taskIndex);
    return {
      ...task,
      categoryIds: task.categoryIds.map((ids, place) =>
        droppedFrom(ids, Infinity, { rate: rateOf(at(categories, place)), key: keys.uint32() }),
      ),
      bagIds: task.bagIds.map((ids, place) => {
        const bag = at(bags, place);
        // A trained row of empty places follows the rows of the feature, and stays.
        return droppedFrom(ids, bag.rowCount, { rate: rateOf(bag), key: keys.uint32() });
      }),
    };
  });
}

/** @param end ids from here on stay, like negative ones, which mark empty places. */
function droppedFrom(
  ids: Int32Array,
  end: number,
  { rate, key }: { readonly rate: number; readonly key: number },
): Int32Array {
  if (rate === 0) return ids;
  const threshold = rate * 2 ** 32;
  return ids.map((id, place) =>
    id >= 0 && id < end && wordAt(key, place) < threshold ? UNKNOWN_ID : id,
  );
}
