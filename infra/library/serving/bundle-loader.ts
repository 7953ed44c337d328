/** How a server gets its bundles: mapped where the addon is compiled, read into memory elsewhere. */

import { scoringAddon } from '#bootstrap/serving/scoring-addon.mjs';
import type { Surroundings } from '../../../coordinator/runs/call/run-handle.js';
import { objectStoreAt, s3OptionsIn } from '../../../coordinator/runs/places.js';
import { cacheFolder } from '../../../shared/base/cache-folder.js';
import { MappingLoader } from '../../../worker/serving/loading/mapping-loader.js';
import { readingLoader, type BundleLoader } from '../../../worker/serving/server/bundle-keeper.js';
import { chosenScorer } from '../../../worker/serving/server/scorer-choice.js';

/** Below the folder where processes of this user keep what can be made again. */
const CACHE_NAME = 'bundle-files';

interface CacheRequest {
  readonly cache?: string | undefined;
  readonly cacheGib: number;
}

/** @param address of the bundles. */
export function bundleLoaderOf(
  address: string,
  { cache, cacheGib }: CacheRequest,
  { clock, environment }: Pick<Surroundings, 'clock' | 'environment'>,
): BundleLoader {
  const addonPath = scoringAddon.path();
  const choice = chosenScorer(addonPath);
  const folder = cache ?? cacheFolder(environment, CACHE_NAME);
  // A folder's own files are mapped, and need no cache.
  if (choice.reason !== null || (folder === null && address.startsWith('s3://')))
    return readingLoader(objectStoreAt(address, environment), choice);
  const settings = {
    ...{ address, s3: s3OptionsIn(environment), addonPath },
    cacheFolder: folder ?? '',
    cacheByteCountMax: cacheGib * 2 ** 30,
  };
  return new MappingLoader(settings, clock);
}
