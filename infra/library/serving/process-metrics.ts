/** The metrics of several processes on one port, as their parent tells them. */

import type { Clock } from '../../../shared/base/clock.js';
import {
  countsIn,
  mergedSnapshots,
  MetricRegistry,
  type MetricsSnapshot,
} from '../../../shared/metrics/metric-registry.js';
import { processMetrics } from '../../../shared/metrics/process-metrics.js';
import { metricUpdatesOf, type StampedEvent } from '../../../shared/events/run-events.js';
import type { ServingProcesses } from '../../../worker/serving/processes/serving-processes.js';

export class ProcessesMetrics {
  readonly #registry = new MetricRegistry('server');
  readonly #setProcess: () => void;
  /** By process id, what each said last. */
  readonly #latest = new Map<number, MetricsSnapshot>();
  /** The counts of processes that have ended, so that totals do not fall. */
  #ended: MetricsSnapshot = [];

  constructor(surroundings: { readonly clock: Clock; readonly version: string }) {
    this.#setProcess = processMetrics(this.#registry, surroundings);
  }

  /** Takes events of the parent; processes count their own. */
  readonly sink = (event: StampedEvent): void => {
    if (event.kind === 'server-process-ended') this.#registry.apply(metricUpdatesOf(event));
  };

  async snapshot(
    processes: Pick<ServingProcesses, 'metrics' | 'counts' | 'pids'>,
  ): Promise<MetricsSnapshot> {
    this.#setProcess();
    const { wanted, ready } = processes.counts;
    this.#registry.set('qianmo_server_processes', { state: 'wanted' }, wanted);
    this.#registry.set('qianmo_server_processes', { state: 'ready' }, ready);
    for (const [pid, values] of await processes.metrics()) this.#latest.set(pid, values);
    const gone = [...this.#latest].filter(([pid]) => !processes.pids.includes(pid));
    for (const [pid] of gone) this.#latest.delete(pid);
    this.#ended = mergedSnapshots([this.#ended, ...gone.map(([, values]) => countsIn(values))]);
    return mergedSnapshots([this.#registry.snapshot(), ...this.#latest.values(), this.#ended]);
  }
}
