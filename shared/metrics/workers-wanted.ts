/** The answer to an autoscaler: how many workers a run wants, by pool. */

import { DEVICE_POOLS } from '../names/event-terms.js';
import type { MetricRegistry } from './metric-registry.js';

/** 0 for all pools in a pause, and once the run has ended. */
export function workersWantedIn(registry: MetricRegistry): Readonly<Record<string, number>> {
  return Object.fromEntries(
    DEVICE_POOLS.map((device) => [device, registry.valueOf('qianmo_workers_wanted', { device })]),
  );
}
