/** The metrics of a process that answers rankings: counted as requests end, completed when somebody asks. */

import { shortDigest } from '../../shared/names/counted.js';
import type { Clock } from '../../shared/base/clock.js';
import {
  MetricRegistry,
  countsIn,
  mergedSnapshots,
  processMetrics,
  type MetricsSnapshot,
} from '../../shared/metrics/metric-registry.js';
import {
  metricUpdatesOf,
  type StampedEventSink,
  type StampedEvent,
} from '../../shared/events/run-events.js';
import { segmentLabel, type CalibrationSums } from '../../worker/serving/exploration/feedback.js';
import type { ExplorationCounts } from '../../worker/serving/server/endpoints/exploration.js';
import type { BundleKeeper, CanaryKeeper } from '../../worker/serving/server/bundle-keeper.js';
import type { EndedRequest } from '../../worker/serving/server/ranking-server.js';
import type { RequestReport } from '../../worker/serving/server/endpoint.js';
import type { ServedBundle } from '../../worker/serving/server/served-bundle.js';
import type { ServingProcesses } from '../../worker/serving/processes/serving-processes.js';

/** Parts of a server whose numbers are read. */
interface CountedServer {
  readonly keeper: BundleKeeper;
  readonly canary: CanaryKeeper | null;
  readonly requests: () => RequestReport;
  /** Null without exploration. */
  readonly exploration: () => ExplorationCounts | null;
}

const MS_PER_SECOND = 1000;

const CALIBRATION_METRICS = [
  { name: 'qianmo_feedback_impressions_total', part: 'impressions' },
  { name: 'qianmo_predicted_outcomes_total', part: 'predicted' },
  { name: 'qianmo_predicted_outcome_variance_total', part: 'variance' },
  { name: 'qianmo_observed_outcomes_total', part: 'observed' },
] as const;

export class ServingMetrics {
  readonly #registry = new MetricRegistry('server');
  readonly #setProcess: () => void;
  /** The candidates of each bundle that have been counted. */
  readonly #counted = new WeakMap<ServedBundle, ServedBundle['scored']>();
  #server: CountedServer | null = null;

  constructor(surroundings: { readonly clock: Clock; readonly version: string }) {
    this.#setProcess = processMetrics(this.#registry, surroundings);
  }

  readonly sink: StampedEventSink = (event) => this.#registry.apply(metricUpdatesOf(event));

  readonly onRequest = ({ route, status, durationMs }: EndedRequest): void => {
    const registry = this.#registry;
    registry.add('qianmo_requests_total', { route, status: `${Math.floor(status / 100)}xx` });
    registry.observe('qianmo_request_seconds', { route }, durationMs / MS_PER_SECOND);
  };

  /** Reads the server from now on. */
  watch(server: CountedServer): void {
    this.#server = server;
  }

  snapshot(): MetricsSnapshot {
    this.#setProcess();
    this.#readServer();
    return this.#registry.snapshot();
  }

  /** Counts the last candidates of the bundles in use. Those that warmed the next one are not counted. */
  replacedBy(next: ServedBundle): void {
    this.#readServer();
    this.#counted.set(next, structuredClone(next.scored));
  }

  #readServer(): void {
    if (this.#server === null) return;
    const registry = this.#registry;
    const { keeper, canary, requests, exploration } = this.#server;
    const { waiting, abandoned, refused } = requests();
    registry.set('qianmo_requests_waiting', {}, waiting);
    registry.set('qianmo_requests_abandoned_total', {}, abandoned);
    const sumOf = (count: 'labelFailureCount' | 'refusalCount'): number =>
      keeper[count] + (canary?.[count] ?? 0);
    registry.set('qianmo_label_failures_total', {}, sumOf('labelFailureCount'));
    registry.set('qianmo_bundle_refusals_total', {}, sumOf('refusalCount'));
    for (const [reason, count] of Object.entries(refused))
      registry.set('qianmo_requests_refused_total', { reason }, count);
    registry.forget('qianmo_bundle_info');
    this.#readBundle('stable', keeper.current);
    if (canary?.current) this.#readBundle('canary', canary.current);
    const explored = exploration();
    if (explored === null) return;
    registry.set('qianmo_decided_slots_total', {}, explored.decidedSlots);
    registry.set('qianmo_explored_slots_total', {}, explored.exploredSlots);
    this.#readCalibration(explored.calibration);
  }

  /** Bundles that have had no feedback for long are forgotten, so that their number is bounded. */
  #readCalibration(found: readonly CalibrationSums[]): void {
    const registry = this.#registry;
    for (const { name } of CALIBRATION_METRICS) registry.forget(name);
    // Counts begin at 0, so that rates are right from the first event on.
    for (const { loaded, digest } of this.#servedBundles())
      for (const { loss, segment } of loaded.manifest.labels)
        for (const { name } of CALIBRATION_METRICS)
          if (loss === 'binary')
            registry.set(name, { bundle: shortDigest(digest), segment: segmentLabel(segment) }, 0);
    for (const { bundle, segment, ...sums } of found)
      for (const { name, part } of CALIBRATION_METRICS)
        registry.set(name, { bundle, segment }, sums[part]);
  }

  #servedBundles(): ServedBundle[] {
    if (this.#server === null) return [];
    const { keeper, canary } = this.#server;
    return [keeper.current, ...(canary?.current ? [canary.current] : [])];
  }

  #readBundle(role: 'stable' | 'canary', bundle: ServedBundle): void {
    const registry = this.#registry;
    registry.set('qianmo_bundle_info', { role, bundle: bundle.digest }, 1);
    const { candidates, unknown, dropped } = bundle.scored;
    const before = this.#counted.get(bundle);
    registry.add('qianmo_scored_candidates_total', {}, candidates - (before?.candidates ?? 0));
    registry.add('qianmo_unknown_adgroups_total', {}, unknown - (before?.unknown ?? 0));
    for (const reason of ['wrong-value', 'not-finite', 'paused', 'removed'] as const) {
      const count = dropped[reason] - (before?.dropped[reason] ?? 0);
      registry.add('qianmo_dropped_candidates_total', { reason }, count);
    }
    this.#counted.set(bundle, structuredClone(bundle.scored));
  }
}

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
