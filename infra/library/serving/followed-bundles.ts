/** The bundles that a server follows: the one in use, and a canary where one is asked for. */

import { parsedBundleAddress } from '../../../coordinator/runs/export/bundle-address.js';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { LATEST_LABEL } from '../../../shared/bundle/bundle-labels.js';
import type { RunEventSink } from '../../../shared/events/run-events.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import {
  BundleKeeper,
  CanaryKeeper,
  type BundleLoader,
} from '../../../worker/serving/server/bundle-keeper.js';
import type { ServedBundle } from '../../../worker/serving/server/served-bundle.js';

interface FollowedRequest {
  readonly bundle: string;
  readonly canary?: string | undefined;
  readonly canaryShare: number;
}

interface FollowedSource {
  readonly store: ObjectStore;
  /** Closed with the bundles, or if they cannot be opened. */
  readonly loader: BundleLoader;
  readonly clock: Clock;
  readonly onEvent: RunEventSink;
  /** Makes a bundle ready, before it is served. */
  readonly prepare: (bundle: ServedBundle) => Promise<void>;
}

interface FollowedBundles {
  readonly keeper: BundleKeeper;
  readonly canary: CanaryKeeper | null;
  /** Looks at the labels that have failed: one that cannot be read for long is told once, and counted at every look. */
  readonly labelFailures: () => number;
  /** Looks at bundles that were refused, likewise. */
  readonly bundleRefusals: () => number;
  /** Follows the labels until the signal aborts. */
  watch(pollMs: number, signal: AbortSignal): Promise<void>;
  /** Gives the memory back, when no request is answered any more. */
  close(): Promise<void>;
}

/** @throws QianmoError if there is no bundle to be served; a canary that is wrong is told of. */
export async function openFollowedBundles(
  request: FollowedRequest,
  source: FollowedSource,
): Promise<FollowedBundles> {
  const { name = LATEST_LABEL } = parsedBundleAddress(request.bundle);
  let keeper: BundleKeeper;
  try {
    keeper = await BundleKeeper.open({ ...source, name });
  } catch (error) {
    await source.loader.close();
    throw error;
  }
  const canary =
    request.canary === undefined
      ? null
      : await CanaryKeeper.open({
          ...{ ...source, name: canaryName(request.bundle, request.canary) },
          ...{ share: request.canaryShare, stable: () => keeper.current.digest },
        });
  return {
    ...{ keeper, canary },
    labelFailures: () => keeper.labelFailureCount + (canary?.labelFailureCount ?? 0),
    bundleRefusals: () => keeper.refusalCount + (canary?.refusalCount ?? 0),
    watch: async (pollMs, signal) => {
      await Promise.all([keeper.watch(pollMs, signal), canary?.watch(pollMs, signal)]);
    },
    close: () => {
      canary?.close();
      return keeper.close();
    },
  };
}

/** @throws QianmoError of kind `usage` if it has another address, or no label. */
export function canaryName(bundle: string, canary: string): string {
  const { address } = parsedBundleAddress(bundle);
  const parsed = parsedBundleAddress(canary);
  if (parsed.address === address && parsed.name !== undefined) return parsed.name;
  throw new QianmoError({
    kind: 'usage',
    what: 'a canary is a bundle at the address of the others, under a label',
    where: '--canary',
    expected: `${address}@canary, for example`,
    found: canary,
    cure: 'export it there, and move a label to it with `qianmo bundle label`',
  });
}
