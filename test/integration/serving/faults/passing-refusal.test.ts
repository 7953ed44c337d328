/** A bundle that cannot be taken for a fault that may pass: it is tried at every poll, and told once for each reason. */

import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../../shared/base/clock.js';
import { moveLabel } from '../../../../shared/bundle/bundle-store.js';
import type { RunEvent } from '../../../../shared/events/run-events.js';
import { BundleKeeper, CanaryKeeper } from '../../../../worker/serving/server/bundle-keeper.js';
import { readingLoader, twoBundles } from '../../../fixtures/serving/served-export.js';

const bundles = await twoBundles();

/** A keeper whose label moves to the second bundle, which cannot be loaded while there is a fault. */
async function faultyKeeper(name: 'latest' | 'canary') {
  const { objects, digests } = bundles;
  const events: RunEvent[] = [];
  const fault: { what: string | null; tries: number } = { what: null, tries: 0 };
  const whole = readingLoader(objects);
  const loader = {
    ...whole,
    load: (digest: string) => {
      fault.tries += 1;
      if (fault.what === null) return whole.load(digest);
      return Promise.reject(new Error(fault.what));
    },
  };
  const onEvent = (event: RunEvent): void => void events.push(event);
  const source = { store: objects, name, loader, clock: systemClock, onEvent };
  await moveLabel(objects, name, digests[0]);
  const keeper =
    name === 'latest'
      ? await BundleKeeper.open(source)
      : await CanaryKeeper.open({ ...source, share: 1, stable: () => digests[0] });
  const polledWith = async (what: string | null): Promise<void> => {
    fault.what = what;
    await keeper.poll();
  };
  const told = (): readonly string[] =>
    events.flatMap((event) => (event.kind === 'bundle-refused' ? [event.reason] : []));
  return { keeper, fault, polledWith, told };
}

describe.each(['latest', 'canary'] as const)('the bundle of the label %s', (name) => {
  test('is tried at every poll, and told once until the reason changes', async () => {
    const { keeper, fault, polledWith, told } = await faultyKeeper(name);
    const [first, second] = bundles.digests;
    await moveLabel(bundles.objects, name, second);
    const triesBefore = fault.tries;
    for (let poll = 0; poll < 3; poll += 1) await polledWith('the disk is full');
    expect(fault.tries - triesBefore).toBe(3);
    expect(told()).toEqual(['the disk is full']);
    expect(keeper.refused).toEqual({ bundle: second, reason: 'the disk is full' });
    for (let poll = 0; poll < 2; poll += 1) await polledWith('the bucket does not answer');
    expect(told()).toEqual(['the disk is full', 'the bucket does not answer']);
    expect(keeper.refusalCount).toBe(5);

    // Another look, after the label was elsewhere, is news.
    await moveLabel(bundles.objects, name, first);
    await polledWith(null);
    expect(keeper.refused).toBeNull();
    await moveLabel(bundles.objects, name, second);
    await polledWith('the bucket does not answer');
    expect(told()).toHaveLength(3);
    await polledWith(null);
    expect([keeper.current?.digest, keeper.refused]).toEqual([second, null]);
    expect(told()).toHaveLength(3);
  });
});
