/** Moves all labels of one bundle to another that was made of it. */

import { QianmoError } from '../../../shared/base/errors.js';
import { listLabels, moveLabelFrom } from '../../../shared/bundle/bundle-labels.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';

/**
 * Returns the names of the labels that pointed at the one bundle and point at the other now.
 *
 * @throws QianmoError of kind `failed` if somebody has moved some of them meanwhile, once the others are moved.
 */
export async function moveLabelsFrom(
  store: ObjectStore,
  from: string,
  to: string,
): Promise<string[]> {
  const moved: string[] = [];
  const failures: { readonly name: string; readonly error: QianmoError }[] = [];
  for (const { name, bundle } of await listLabels(store)) {
    if (bundle !== from) continue;
    try {
      await moveLabelFrom(store, name, { from, to });
      moved.push(name);
    } catch (error) {
      if (!(error instanceof QianmoError) || error.kind !== 'failed') throw error;
      failures.push({ name, error });
    }
  }
  const [first] = failures;
  if (first === undefined) return moved;
  const left = failures.map(({ name }) => name).join(', ');
  throw new QianmoError({
    kind: 'failed',
    what: 'labels were moved meanwhile, and stay where they are',
    where: store.address,
    expected: `${left} at ${from.slice(0, 12)}`,
    found: `moved by others: ${left}; moved to the new bundle: ${moved.join(', ') || 'none'}`,
    cure: `leave them there, or move them to the new bundle, ${to.slice(0, 12)}, with \`qianmo bundle label\``,
    cause: first.error,
  });
}
