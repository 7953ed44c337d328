/**
 * The production code of a checkout, compiled there. Both sides of a comparison are driven by the jobs and
 * executors of this checkout.
 */

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type * as RowAddons from '../../../infra/bootstrap/tables/row-addon.mjs';
import type * as QueueDispatcher from '../../../coordinator/dispatch/queue-dispatcher.js';
import type * as VirtualTimes from '../../../infra/simulation/machines.js';
import type * as RunConfigs from '../../../shared/config/run-config.js';
import type * as BullmqQueues from '../../../shared/queue/bullmq-job-queue.js';
import type * as MemoryQueues from '../../../infra/simulation/memory-queue.js';
import type * as Protocol from '../../../shared/queue/protocol.js';
import type * as NativeRows from '../../../shared/tensors/native-rows.js';
import type * as WorkLoops from '../../../worker/carrying/work-loop.js';

export type CheckoutCode = typeof QueueDispatcher &
  typeof RunConfigs &
  typeof BullmqQueues &
  typeof MemoryQueues &
  typeof Protocol &
  typeof VirtualTimes &
  typeof WorkLoops;

const MODULES = [
  'coordinator/dispatch/queue-dispatcher.js',
  'infra/simulation/virtual-time.js',
  'shared/config/run-config.js',
  'shared/queue/bullmq-job-queue.js',
  'infra/simulation/queue/memory-job-queue.js',
  'shared/queue/protocol.js',
  'worker/carrying/work-loop.js',
];

/** Loads the native loops that a coordinator of the checkout has, if that is compiled. */
async function loadNativeLoops(checkout: string): Promise<void> {
  const addonUrl = pathToFileURL(join(checkout, 'infra/bootstrap/tables/row-addon.mjs')).href;
  const loaderUrl = pathToFileURL(join(checkout, 'dist/shared/tensors/native-rows.js')).href;
  const { rowAddon } = (await import(addonUrl)) as typeof RowAddons;
  const { loadNativeRows } = (await import(loaderUrl)) as typeof NativeRows;
  loadNativeRows(rowAddon.path());
}

export async function checkoutCode(checkout: string): Promise<CheckoutCode> {
  await loadNativeLoops(checkout);
  const urlOf = (path: string): string => pathToFileURL(join(checkout, 'dist', path)).href;
  const modules = await Promise.all(
    MODULES.map(async (path) => (await import(urlOf(path))) as object),
  );
  // The other checkout has the same interfaces, or the bench fails at the first call.
  return Object.assign({}, ...modules) as CheckoutCode;
}
