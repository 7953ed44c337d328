/** The effect of each fault on the simulated cluster. */

import type { Fault, FaultKind } from './faults.js';
import type { Machine } from './simulated-process.js';
import { cancel, extend, pause } from './operator.js';
import { EXTENDED_OUTER_STEPS, simulatedStoreOf } from './simulated-run.js';
import type { JobFault, Place, World } from './world.js';

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
  'run-paused': ({ durationMs }, world) => void pause(durationMs, world),
  'run-cancelled': (_, world) => void cancel(world),
  'run-extended': (_, world) => void extend(EXTENDED_OUTER_STEPS, world),
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
