/** The order of arrival, beside that of a map whose entries are deleted and set again. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ArrivalOrder } from '../../../worker/serving/exploration/evidence-ledger.js';

it('has the entries of a map in which each put entry is the last', () => {
  // Seen to fail: without the link back from the entry behind a deleted one.
  const key = fc.constantFrom('a', 'b', 'c', 'd', 'e');
  const change = fc.oneof(
    fc.record({ kind: fc.constant('put' as const), key, value: fc.nat() }),
    fc.record({ kind: fc.constant('delete' as const), key }),
    fc.constant({ kind: 'delete first' as const }),
  );
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const [order, map] = [new ArrivalOrder<number>(), new Map<string, number>()];
      for (const changed of changes) {
        const first = order.first();
        if (changed.kind !== 'delete first') map.delete(changed.key);
        else if (first !== null) map.delete(first.key);
        if (changed.kind === 'put') {
          map.set(changed.key, changed.value);
          order.put(changed.key, changed.value);
        } else if (changed.kind === 'delete') order.delete(changed.key);
        else if (first !== null) order.delete(first.key);

        expect([...order]).toEqual([...map]);
        expect(order.size).toBe(map.size);
        expect(order.first()?.key).toBe([...map.keys()][0]);
        for (const name of 'abcde') expect(order.get(name)).toBe(map.get(name));
      }
    }),
    { numRuns: 500 },
  );
});
