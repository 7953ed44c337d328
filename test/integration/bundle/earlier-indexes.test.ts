/** A bundle whose dictionaries have the index of earlier versions, or none, is read as one with the index of today. */

import { beforeAll, expect, test } from 'vitest';
import { publishBundle, readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import type { BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import { readAnyBundle } from '../../../shared/bundle/delta/read-any-bundle.js';
import { twoBundles, type TwoBundles } from '../../fixtures/serving/served-export.js';

const INDEX = /^dictionaries\/.*\.index$/;

let bundles: TwoBundles;
beforeAll(async () => {
  bundles = await twoBundles();
});

async function dictionariesOf(arrays: BundleManifest['arrays']): Promise<readonly unknown[]> {
  const { objects, digests } = bundles;
  const { manifest } = await readBundleManifest(objects, digests[0]);
  const { digest } = await publishBundle(objects, { ...manifest, arrays: [...arrays] });
  const { encoder } = await readAnyBundle(objects, digest);
  return encoder.features.map(({ name, dictionary }) => [name, dictionary]);
}

test('dictionaries without an index, and with one of ids alone', async () => {
  const { manifest } = await readBundleManifest(bundles.objects, bundles.digests[0]);
  const { arrays } = manifest;
  expect(arrays.filter(({ name }) => INDEX.test(name)).length).toBeGreaterThan(1);
  const expected = await dictionariesOf(arrays);
  const without = arrays.filter(({ name }) => !INDEX.test(name));
  expect(await dictionariesOf(without)).toEqual(expected);
  const ofIds = arrays.map((array) =>
    INDEX.test(array.name)
      ? { ...array, name: array.name.replace('.index', '.slots'), type: 'I32' as const }
      : array,
  );
  expect(await dictionariesOf(ofIds)).toEqual(expected);
});
