/** What the thread that answers requests and the one that loads bundles tell each other. */

import type { FailureRecord } from '../../../shared/base/failure-record.js';
import type { BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import type { S3Options } from '../../../shared/storage/s3-object-store.js';
import type { AddressSlot } from './address-slots.js';
import type { MappedRegion } from './mapped-files.js';

export interface LoaderSettings {
  /** Of the bundles. */
  readonly address: string;
  readonly s3: S3Options;
  readonly addonPath: string;
  /** Where files are kept that are not in a folder already. */
  readonly cacheFolder: string;
  readonly cacheByteCountMax: number;
}

/** `loadId` names the bundle that a load has mapped, until it is freed. */
export type LoaderRequest =
  | {
      readonly kind: 'load';
      readonly loadId: number;
      readonly digest: string;
      /** Whether to pause often, because another thread answers requests meanwhile. */
      readonly isPaced: boolean;
    }
  | { readonly kind: 'free'; readonly loadId: number }
  /** Ends slots that the thread has dropped, over which the other has no buffers any more. */
  | { readonly kind: 'end-slots'; readonly slots: readonly AddressSlot[] }
  /** Ends the thread once all before is done. */
  | { readonly kind: 'end' };

export interface LoadedReply {
  readonly kind: 'loaded';
  readonly loadId: number;
  readonly manifest: BundleManifest;
  readonly regions: readonly MappedRegion[];
  /** Slots that the next bundle will have, so that their buffers are made before requests come; the first bundle alone has some. */
  readonly reserved: readonly AddressSlot[];
}

export type LoaderReply =
  /** The first of all. */
  | { readonly kind: 'started'; readonly threadId: number }
  | LoadedReply
  /** Slots that no bundle needs any more. */
  | { readonly kind: 'dropped'; readonly slots: readonly AddressSlot[] }
  | { readonly kind: 'failed'; readonly loadId: number; readonly failure: FailureRecord };
