/** Lookups of the values of dictionaries, for category features that look their texts up as they are. */

import type { RowEncoder } from '../../../shared/features/row-encoder.js';
import type { TextLookups, ValueLookup } from './text-lookup.js';

/** By feature. */
export function valueLookupsOf(
  { features }: Pick<RowEncoder, 'features'>,
  lookups: TextLookups,
): ReadonlyMap<string, ValueLookup> {
  return new Map(
    features.flatMap(({ name, kind, dictionary }): [string, ValueLookup][] =>
      kind === 'category' && dictionary !== null ? [[name, lookups.ofValues(dictionary)]] : [],
    ),
  );
}
