/** The self-check of a bundle that opens, with something in it that is not what the export wrote. */

import { expect, test } from 'vitest';
import { readPublishedBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { ServedBundle } from '../../../worker/serving/server/served-bundle.js';
import { twoBundles } from '../../fixtures/serving/served-export.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const [bundles, addon] = [await twoBundles(), await compiledAddon()];

async function checked(change: (loaded: LoadedBundle) => void): Promise<ServedBundle> {
  const [digest] = bundles.digests;
  const loaded = await readPublishedBundle(bundles.objects, digest);
  change(loaded);
  const bundle = new ServedBundle({ digest, loaded, addon });
  bundle.selfCheck('the test');
  return bundle;
}

test('passes what the export wrote', async () => {
  const bundle = await checked(() => undefined);
  expect(bundle.loaded.selfCheck.blocks.length).toBeGreaterThan(8);
});

test.each<[what: string, change: (loaded: LoadedBundle) => void]>([
  ['another score', ({ selfCheck }) => selfCheck.logits.fill(0.5)],
  ['another calibrated value', ({ offsets }) => offsets.fill(0.5)],
  ['the key of an adgroup', ({ index }) => void index.blocks.reverse()],
  ['the label of a block', ({ model }) => void model.blocks.isOfValues.fill(1, 1)],
  [
    'a text of the feature category0',
    ({ encoder }) => {
      for (const { name, dictionary } of encoder.features)
        if (name === 'category0') dictionary?.slots.fill(0);
    },
  ],
])('refuses %s', async (what, change) => {
  await expect(checked(change)).rejects.toMatchObject({
    kind: 'data',
    report: { what: expect.stringContaining(what) as string, where: 'the test' },
  });
});
