/**
 * The faults of a simulation, drawn from its seed before it begins. Each has a stream of its own, so that
 * a simulation with some of them left out has the others unchanged.
 */

import { randomStream } from '../../shared/base/random.js';
import type { Machine } from './machines.js';
import { simulatedStoreOf, RUN_NAME, signedQueueOf } from './simulated-run.js';
import type { JobFault, Place, World } from './world.js';

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
  'run-cancelled': {},
} as const;

type FaultKind = keyof typeof KINDS;

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

const SLOW_LATENCY_MS = 3_000;
const CLOCK_JUMP_MS_MAX = 4 * 3_600_000;
const CLOCK_JUMP_INTERVAL_MS = 500;
/** The share of set clocks that are set back. */
const BACKWARD_SHARE = 0.75;
const REPLACED_AFTER_MS = 5_000;

type Effect = (fault: Fault, world: World) => void;

/** Lets the faults happen at their times. */
export function scheduleFaults(faults: readonly Fault[], world: World): void {
  for (const fault of faults) {
    world.time.at(fault.atMs, () => {
      world.note('fault', `${fault.index} ${fault.kind}`);
      world.invariants.disturb(fault.durationMs);
      EFFECTS[fault.kind](fault, world);
    });
    if (fault.kind === 'failover') scheduleFailover(fault, world);
  }
}

/** The replica takes over with the state that it had a while before. */
function scheduleFailover({ atMs, lagMs, durationMs }: Fault, world: World): void {
  const { server, time } = world;
  time.at(Math.max(0, atMs - lagMs), () => {
    const restore = server.remember();
    time.at(atMs + durationMs / 2, () => {
      restore();
      server.become('read-only');
      time.at(atMs + durationMs, () => server.become('up'));
    });
  });
}

const EFFECTS: Readonly<Record<FaultKind, Effect>> = {
  'worker-killed': (fault, world) => {
    const place = chosen(fault, world.workers);
    place.emptyMs = fault.durationMs;
    place.process?.kill();
  },
  'worker-suspended': (fault, world) => suspend(chosen(fault, world.workers), fault, world),
  'worker-stopped': (fault, world) => {
    const place = chosen(fault, world.workers);
    place.emptyMs = fault.durationMs;
    place.stop();
  },
  'worker-cut-off': (fault, world) => cutOff(chosen(fault, world.workers).machine, fault),
  'coordinator-killed': (fault, { coordinators }) => {
    const [first] = coordinators;
    if (first === undefined) return;
    first.emptyMs = fault.durationMs;
    first.process?.kill();
  },
  'coordinator-stopped': (fault, { coordinators }) => {
    const [first] = coordinators;
    if (first === undefined) return;
    first.emptyMs = fault.durationMs;
    first.stop();
  },
  'coordinator-suspended': (fault, world) => suspend(world.coordinators[0], fault, world),
  'coordinator-cut-off': (fault, { coordinators }) => cutOff(coordinators[0]?.machine, fault),
  'second-coordinator': (_, world) => world.startSecondCoordinator(),
  'suspended-and-replaced': (fault, world) => {
    suspend(world.coordinators[0], fault, world);
    world.time.at(fault.atMs + REPLACED_AFTER_MS, () => world.startSecondCoordinator());
  },
  'server-away': ({ atMs, durationMs }, { server, time }) => {
    server.goAway();
    time.at(atMs + durationMs, () => server.become('up'));
  },
  'server-forgets': ({ atMs, durationMs }, { server, time }) => {
    server.goAway();
    server.loseMemory();
    time.at(atMs + durationMs, () => server.become('up'));
  },
  failover: (_, { server }) => server.goAway(),
  'server-disk-full': (fault, world) => fill('disk-full', fault, world),
  'server-memory-full': (fault, world) => fill('memory-full', fault, world),
  'replies-lost': (fault, world) => {
    anyMachine(fault, world).repliesToLose += fault.count;
  },
  'wake-ups-lost': ({ count }, { coordinators }) => {
    for (const { machine } of coordinators) machine.eventsToLose += count;
  },
  'connection-silent': (fault, world) => {
    anyMachine(fault, world).silenceCount += 1;
  },
  'network-slow': (fault, world) => {
    const machine = anyMachine(fault, world);
    const usualMs = machine.latencyMsMax;
    machine.latencyMsMax = SLOW_LATENCY_MS * fault.choice;
    world.time.at(fault.atMs + fault.durationMs, () => {
      machine.latencyMsMax = Math.min(usualMs, machine.latencyMsMax);
    });
  },
  'blob-evicted': ({ choice }, { server }) => server.evictOne(choice),
  'blob-damaged': ({ choice, target }, { server }) => server.damageOne(choice, target < 0.5),
  'store-away': ({ atMs, durationMs, choice }, { store, largeBlobs }) => {
    const away = choice < 0.5 ? store : largeBlobs;
    away.awayUntilMs = Math.max(away.awayUntilMs, atMs + durationMs);
  },
  'store-answer-lost': ({ count }, { store }) => {
    store.answersToLose += count;
  },
  'object-damaged': ({ choice, target }, { store, invariants }) => {
    invariants.isAnyObjectDamaged = true;
    void store.damageOne(choice, target < 0.5);
  },
  'killed-at-put': ({ count, choice }, { store }) => {
    store.deathAtPut = { count, isAfter: choice < 0.5 };
  },
  'clock-set': (fault, world) => {
    const machine = anyMachine(fault, world);
    const byMs = (fault.choice - BACKWARD_SHARE) * CLOCK_JUMP_MS_MAX;
    for (let jump = 0; jump < fault.count; jump += 1)
      world.time.at(fault.atMs + jump * CLOCK_JUMP_INTERVAL_MS, () => machine.setClock(byMs));
  },
  'jobs-fail': (fault, world) => spoilJobs('fails', fault, world),
  'jobs-not-finite': (fault, world) => spoilJobs('not-finite', fault, world),
  'jobs-hang': (fault, world) => spoilJobs('hangs', fault, world),
  'worker-disk-full': (fault, world) => spoilJobs('disk-full', fault, world),
  'executor-stuck': (fault, world) => spoilJobs('hangs', fault, world),
  'deadly-task': ({ choice, count }, world) => {
    const { tasks } = simulatedStoreOf(world.variant);
    const taskIndex = Math.floor(choice * tasks.length);
    world.deadlyTask = { taskIndex, killCount: count };
  },
  // Where the first result decides the kind of machine, every kind is right.
  'jobs-unlike': (fault, world) => {
    if (world.variant.demandsFingerprint) spoilJobs('unlike', fault, world);
  },
  // Without signatures nothing tells a forged result.
  'results-forged': (fault, world) => {
    if (world.variant.isSigned) chosen(fault, world.workers).machine.resultsToForge += fault.count;
  },
  'run-cancelled': (_, world) => void cancel(world),
};

function chosen<Each extends Place>({ target }: Fault, places: readonly Each[]): Each {
  const place = places[Math.floor(target * places.length)];
  if (place === undefined) throw new Error('a simulation has workers');
  return place;
}

/** The machine of the first coordinator as often as all others together. */
function anyMachine(fault: Fault, { workers, coordinators }: World): Machine {
  const others = [...workers, ...coordinators.slice(1)];
  const places: readonly Place[] = [...others, ...others.flatMap(() => coordinators[0] ?? [])];
  return chosen(fault, places).machine;
}

function suspend(place: Place | undefined, { atMs, durationMs }: Fault, { time }: World): void {
  const process = place?.process ?? null;
  if (process === null) return;
  process.suspend();
  time.at(atMs + durationMs, () => process.resume());
}

function cutOff(machine: Machine | undefined, { atMs, durationMs }: Fault): void {
  if (machine === undefined) return;
  machine.cutOffUntilMs = Math.max(machine.cutOffUntilMs, atMs + durationMs);
}

function fill(
  condition: 'disk-full' | 'memory-full',
  { atMs, durationMs }: Fault,
  { server, time }: World,
): void {
  if (server.isAway) return;
  server.become(condition);
  time.at(atMs + durationMs, () => {
    if (!server.isAway) server.become('up');
  });
}

function spoilJobs(kind: JobFault, fault: Fault, { workers }: World): void {
  const { jobFaults } = chosen(fault, workers);
  for (let job = 0; job < fault.count; job += 1) jobFaults.push(kind);
}

/** A command that finds no coordinator, or no server, is given again. */
const AGAIN_MS = 2_000;

async function cancel(world: World): Promise<void> {
  const controller = await signedQueueOf(world.variant, world.server.queue).openController();
  while (!world.stopped.aborted) {
    const holder = world.server.isAway ? null : await controller.find(RUN_NAME);
    if (holder !== null) {
      await controller.cancel(RUN_NAME, { start: holder.start });
      break;
    }
    await world.time.sleep(AGAIN_MS, world.stopped);
  }
  world.note('operator', 'cancels');
  world.invariants.disturb();
}
