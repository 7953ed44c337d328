/** A manifest is read only if it is whole, of this version, and has no field too many. */

import { describe, expect, test } from 'vitest';
import {
  encodeBundleManifest,
  parseBundleManifest,
  type BundleManifest,
} from '../../../shared/bundle/bundle-manifest.js';
import { sha256Of } from '../../../shared/tensors/sha256.js';
import { MANIFEST } from '../../fixtures/bundle/published-bundles.js';

const digest = 'a'.repeat(64);
const manifest: BundleManifest = {
  ...MANIFEST,
  provenance: {
    ...MANIFEST.provenance,
    checkpoint: { outerStep: 3, digest, fingerprints: ['cpu-avx2-onednn-00c0ffee'] },
  },
  features: [{ name: 'site', kind: 'category', countMin: 1 }],
  encodedFeatures: [
    { name: 'site', kind: 'category', rowCount: 3, encoding: { by: 'dictionary' } },
  ],
  columns: { site: { log: 'text', inferred: 'VARCHAR' }, day: { log: 'typed', type: 'DATE' } },
  calibrations: MANIFEST.calibrations.map((each) => ({
    ...each,
    withoutClick: [{ count: 1, effect: -0.1 }],
  })),
  arrays: [
    { name: 'blocks', type: 'U8', shape: [1, 64], files: [{ sha256: digest, byteCount: 64 }] },
  ],
};

const textOf = (changed: unknown): Uint8Array => Buffer.from(JSON.stringify(changed));
const read = (bytes: Uint8Array): BundleManifest =>
  parseBundleManifest(bytes, sha256Of(bytes), 'the test');

describe('a manifest', () => {
  test('comes back as it was, under the digest of its bytes', () => {
    const { bytes, digest: named } = encodeBundleManifest(manifest);
    expect(named).toBe(sha256Of(bytes));
    expect(parseBundleManifest(bytes, named, 'the test')).toEqual(manifest);
    expect(encodeBundleManifest(read(bytes)).digest).toBe(named);
  });

  test('under another digest is refused', () => {
    const { bytes } = encodeBundleManifest(manifest);
    expect(() => parseBundleManifest(bytes, digest, 'the test')).toThrow(
      expect.objectContaining({
        kind: 'data',
        report: expect.objectContaining({
          found: expect.stringMatching('truncated or changed') as string,
        }) as object,
      }),
    );
  });

  test.each([
    ['not JSON', Buffer.from('{')],
    ['a field too many', textOf({ ...manifest, more: 1 })],
    [
      'a slope that turns the ranking',
      textOf({ ...manifest, calibrations: [{ ...manifest.calibrations[0], slope: -1 }] }),
    ],
    [
      'a file beyond 2 GiB',
      textOf({
        ...manifest,
        arrays: [{ ...manifest.arrays[0], files: [{ sha256: digest, byteCount: 2 ** 31 }] }],
      }),
    ],
    [
      'a file outside',
      textOf({
        ...manifest,
        arrays: [{ ...manifest.arrays[0], files: [{ sha256: '../../etc', byteCount: 1 }] }],
      }),
    ],
  ])('with %s is refused', (_, bytes) => {
    expect(() => read(bytes)).toThrow(expect.objectContaining({ kind: 'data' }));
  });
});
