/**
 * Simulates one run on a cluster whose faults a seed decides, in virtual time, and shrinks the faults of a
 * run that violates an invariant.
 */

import type { TrainingOutcome } from '../../coordinator/training/train-options.js';
import { coordinateAt } from './coordinators.js';
import { scheduleFaults, describedFault, faultsOf, type Fault } from './faults.js';
import type { Violation } from './invariants.js';
import { undisturbedRun, type Reference } from './reference.js';
import {
  BLOB_LIFETIME_MS,
  RUN_NAME,
  describedVariant,
  variantOf,
  type Variant,
} from './simulated-run.js';
import { workAt } from './workers.js';
import { World } from './world.js';

/** After the end of the run, workers finish what is left, and jobs of silent starts are removed. */
const SETTLING_MS = 70_000;

interface SimulationRequest {
  readonly seed: number;
  readonly workers: number;
  /** Which of the seed's faults happen, by index; all if absent. */
  readonly faults?: readonly number[] | undefined;
  readonly keepsLines?: boolean;
  /** Departures from how the seed's run is. */
  readonly variant?: Partial<Variant>;
}

export interface SimulationResult {
  readonly seed: number;
  readonly workers: number;
  /** The faults that happened. */
  readonly faults: readonly Fault[];
  readonly violation: Violation | null;
  readonly eventCount: number;
  /** SHA-256 of the list of events. */
  readonly events: string;
  readonly virtualMs: number;
  /** The command that does the same again. */
  readonly replay: string;
  /** All events, if they were wanted. */
  readonly lines: readonly string[];
}

/** Other differences change no digest. */
const known = new Map<string, Promise<Reference>>();

function referenceOf(variant: Variant): Promise<Reference> {
  const { overlaps, leavesPerStep, stopsEarly } = variant;
  const key = JSON.stringify({ overlaps, leavesPerStep, stopsEarly });
  const reference = known.get(key) ?? undisturbedRun(variant);
  known.set(key, reference);
  return reference;
}

export async function simulate(request: SimulationRequest): Promise<SimulationResult> {
  const { seed, workers, keepsLines = false } = request;
  const variant = { ...variantOf(seed), ...request.variant };
  const reference = await referenceOf(variant);
  const faults = faultsOf(seed).filter(
    ({ index }) => request.faults === undefined || request.faults.includes(index),
  );
  const world = new World({
    ...{ seed, variant, workerCount: workers, keepsLines, reference },
    coordinate: coordinateAt,
  });
  scheduleFaults(faults, world);
  const { invariants, time } = world;
  try {
    const outcome = await time.run(() => completed(world), invariants.afterEach);
    if (outcome !== null) invariants.onOutcome(outcome);
  } catch (error) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    invariants.violate('the simulation ends', detail);
  }
  return {
    ...{ seed, workers, faults, violation: invariants.violation },
    ...{ eventCount: world.eventCount, events: world.digestOfEvents(), virtualMs: time.nowMs },
    ...{ replay: replayOf(request, faults), lines: world.lines ?? [] },
  };
}

/** Removes faults one by one while the same invariant is violated. */
export async function shrunk(failed: SimulationResult): Promise<SimulationResult> {
  let smallest = failed;
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false;
    for (const { index } of smallest.faults) {
      const rest = smallest.faults.map((fault) => fault.index).filter((each) => each !== index);
      const { seed, workers } = failed;
      const tried = await simulate({ seed, workers, faults: rest });
      if (tried.violation?.invariant !== failed.violation?.invariant) continue;
      smallest = tried;
      isSmaller = true;
      break;
    }
  }
  return smallest;
}

export function reportOf(result: SimulationResult): string {
  const { seed, violation, faults, eventCount, events, virtualMs, replay } = result;
  const head = `seed ${seed}: ${eventCount} events in ${(virtualMs / 1000).toFixed(0)} s of virtual time, ${events.slice(0, 16)}`;
  if (violation === null) return `${head}, ${faults.length} faults, all invariants hold`;
  return [
    head,
    `  violated: ${violation.invariant}, at ${(violation.atMs / 1000).toFixed(1)} s`,
    `            ${violation.detail}`,
    `  run:      ${describedVariant(variantOf(seed))}`,
    ...faults.map((fault) => `  fault ${describedFault(fault)}`),
    `  replay:   ${replay}`,
  ].join('\n');
}

function replayOf(
  { seed, workers, faults }: SimulationRequest,
  happened: readonly Fault[],
): string {
  const chosen =
    faults === undefined
      ? ''
      : ` --faults ${happened.map(({ index }) => index).join(',') || 'none'}`;
  return `qianmo simulate --seed ${seed} --workers ${workers}${chosen}`;
}

/** Lets the run complete, and the cluster come to rest. Returns the end of the run. */
async function completed(world: World): Promise<TrainingOutcome | null> {
  const { time, server, invariants } = world;
  const working = world.workers.map((place) => workAt(place, world));
  const [first] = world.coordinators;
  if (first === undefined) throw new Error('a simulation has a coordinator');
  const outcome = await coordinateAt(first, world);
  await world.secondCoordinator;
  await requireNothingWaits(world);
  world.stop();
  await Promise.all(working);
  invariants.disturb(BLOB_LIFETIME_MS);
  await time.sleep(BLOB_LIFETIME_MS);
  if (server.blobCount > 0)
    invariants.violate('no blob outlives its lifetime', `${server.blobCount} are left`);
  return outcome;
}

/** Workers compute the jobs that dead coordinators left. */
async function requireNothingWaits({ server, invariants, time }: World): Promise<void> {
  const producer = await server.queue.openProducer('');
  invariants.disturb(2 * SETTLING_MS);
  await time.sleep(2 * SETTLING_MS);
  const count = await producer.removeLeftovers(RUN_NAME, Number.MAX_SAFE_INTEGER);
  await producer.close();
  if (count > 0) invariants.violate('no job is left on the queue', `${count} jobs wait`);
}
