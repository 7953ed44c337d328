/** The metrics of several processes on one port, over restarts. */

import { expect, test } from 'vitest';
import { ProcessesMetrics } from '../../../infra/library/serving-metrics.js';
import { systemClock } from '../../../shared/base/clock.js';
import type { MetricName } from '../../../shared/metrics/metric-definitions.js';

type CountsByPid = Readonly<Record<number, number>>;

/** Reads a counter of all processes, each of which has counted so much. */
function readerOf(wanted: MetricName): (counts: CountsByPid) => Promise<number | undefined> {
  const metrics = new ProcessesMetrics({ clock: systemClock, version: '0' });
  return async (counts) => {
    const said = Object.entries(counts).map(
      ([pid, value]) => [Number(pid), [{ name: wanted, labels: {}, value }]] as const,
    );
    const snapshot = await metrics.snapshot({
      metrics: () => Promise.resolve(new Map(said.map(([pid, values]) => [pid, [...values]]))),
      counts: { wanted: said.length, ready: said.length },
      pids: said.map(([pid]) => pid),
    });
    return snapshot.find(({ name }) => name === wanted)?.value;
  };
}

test.each(['qianmo_bundle_refusals_total', 'qianmo_label_failures_total'] as const)(
  '%s grows at the first look that fails after the processes were started again',
  async (name) => {
    const read = readerOf(name);
    expect(await read({ 1: 60, 2: 60 })).toBe(120);
    expect(await read({ 3: 0, 4: 0 })).toBe(120);
    expect(await read({ 3: 1, 4: 0 })).toBe(121);
    expect(await read({ 3: 50, 5: 2 })).toBe(172);
  },
);
