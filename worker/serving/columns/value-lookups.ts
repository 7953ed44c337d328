/** Lookups of the ids of texts, for category features that read their texts as they are. */

import type { RowEncoder } from '../../../shared/features/row-encoder.js';
import type { TextLookups, ValueLookup } from './text-lookup.js';

/** By feature. */
export function valueLookupsOf(
  { features }: Pick<RowEncoder, 'features'>,
  lookups: TextLookups,
): ReadonlyMap<string, ValueLookup> {
  return new Map(
    features.flatMap(({ name, kind, textIds }): [string, ValueLookup][] =>
      kind === 'category' && textIds !== null ? [[name, lookups.ofValues(textIds)]] : [],
    ),
  );
}
