/**
 * The faults of a simulation, drawn from its seed before it begins. Each has a stream of its own, so that
 * a simulation with some of them left out has the others unchanged.
 */

import { randomStream } from '../../shared/base/random.js';

/** The longest duration in milliseconds and the largest count of each kind, where it has one. */
const KINDS = {
  'worker-killed': { durationMsMax: 15_000 },
  'worker-suspended': { durationMsMax: 30_000 },
  'worker-stopped': { durationMsMax: 5_000 },
  'worker-cut-off': { durationMsMax: 20_000 },
  'coordinator-killed': { durationMsMax: 20_000 },
  'coordinator-stopped': { durationMsMax: 5_000 },
  'coordinator-suspended': { durationMsMax: 60_000 },
  'coordinator-cut-off': { durationMsMax: 25_000 },
  'second-coordinator': {},
  'suspended-and-replaced': { durationMsMax: 90_000 },
  'server-away': { durationMsMax: 20_000 },
  'server-forgets': { durationMsMax: 5_000 },
  failover: { durationMsMax: 10_000, lagMsMax: 4_000 },
  'server-disk-full': { durationMsMax: 30_000 },
  'server-memory-full': { durationMsMax: 30_000 },
  'replies-lost': { countMax: 12 },
  'wake-ups-lost': { countMax: 20 },
  'connection-silent': {},
  'network-slow': { durationMsMax: 20_000 },
  'blob-evicted': {},
  'blob-damaged': {},
  'store-away': { durationMsMax: 20_000 },
  'store-answer-lost': { countMax: 2 },
  'object-damaged': {},
  'killed-at-put': { countMax: 12 },
  'clock-set': { countMax: 40 },
  'jobs-fail': { countMax: 12 },
  'jobs-not-finite': { countMax: 3 },
  'jobs-hang': { countMax: 2 },
  'worker-disk-full': { countMax: 3 },
  'executor-stuck': {},
  'deadly-task': { countMax: 14 },
  'jobs-unlike': { countMax: 4 },
  'results-forged': { countMax: 4 },
  'run-paused': { durationMsMax: 40_000 },
  'run-cancelled': {},
  'run-extended': {},
} as const;

export type FaultKind = keyof typeof KINDS;

export const FAULT_KINDS = Object.keys(KINDS) as readonly FaultKind[];

export interface Fault {
  /** Its place among the faults that the seed gives. */
  readonly index: number;
  readonly kind: FaultKind;
  readonly atMs: number;
  readonly durationMs: number;
  /** From 1. */
  readonly count: number;
  /** How much earlier the state is that a replica has. */
  readonly lagMs: number;
  /** Each below 1: which machine, and a choice of the kind's own. */
  readonly target: number;
  readonly choice: number;
}

const FAULT_COUNT_MAX = 9;
/** An undisturbed run takes about this long. */
const SPAN_MS = 16_000;

export function faultsOf(seed: number): Fault[] {
  const count = randomStream(seed, 'simulated faults').below(FAULT_COUNT_MAX + 1);
  return Array.from({ length: count }, (_, index) => faultOf(seed, index));
}

function faultOf(seed: number, index: number): Fault {
  const stream = randomStream(seed, 'simulated fault', index);
  const kind = FAULT_KINDS[stream.below(FAULT_KINDS.length)] ?? 'worker-killed';
  const bounds: { durationMsMax?: number; countMax?: number; lagMsMax?: number } = KINDS[kind];
  return {
    index,
    kind,
    atMs: stream.below(SPAN_MS),
    durationMs: stream.below(bounds.durationMsMax ?? 1),
    count: 1 + stream.below(bounds.countMax ?? 1),
    lagMs: stream.below(bounds.lagMsMax ?? 1),
    target: stream.uniform(),
    choice: stream.uniform(),
  };
}

export function describedFault({ index, kind, atMs, durationMs, count }: Fault): string {
  const lasting = durationMs > 0 ? `, for ${(durationMs / 1000).toFixed(1)} s` : '';
  const counted = count > 1 ? `, ${count} times` : '';
  return `${index}: ${kind} at ${(atMs / 1000).toFixed(1)} s${lasting}${counted}`;
}
