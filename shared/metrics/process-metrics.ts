/** The metrics that every process has: its versions, memory, processor time and event loop. */

import { performance } from 'node:perf_hooks';
import type { Clock } from '../base/clock.js';
import type { MetricRegistry } from './metric-registry.js';

const MICROSECONDS_PER_SECOND = 1e6;
const MS_PER_SECOND = 1000;

/** Returns the function that sets them, to be called for each scrape. */
export function processMetrics(
  registry: MetricRegistry,
  { clock, version }: { readonly clock: Clock; readonly version: string },
): () => void {
  const startedMs = clock.epochMs() - process.uptime() * MS_PER_SECOND;
  let before = performance.eventLoopUtilization();
  return () => {
    const { user, system } = process.cpuUsage();
    const now = performance.eventLoopUtilization();
    registry.set('qianmo_build_info', { version, node: process.versions.node }, 1);
    registry.set('qianmo_process_start_time_seconds', {}, startedMs / MS_PER_SECOND);
    registry.set('qianmo_process_cpu_seconds_total', {}, (user + system) / MICROSECONDS_PER_SECOND);
    registry.set('qianmo_process_resident_memory_bytes', {}, process.memoryUsage.rss());
    const { utilization } = performance.eventLoopUtilization(now, before);
    registry.set('qianmo_event_loop_utilization_ratio', {}, utilization);
    before = now;
  };
}
