/**
 * Simulates one run on a cluster whose faults a seed decides, in virtual time, and shrinks the faults of a
 * run that violates an invariant.
 */

import type { TrainingOutcome } from '../../coordinator/training/train-options.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { JobExecutor, JobOutput } from '../../shared/queue/job-executor.js';
import { leafCountOf } from '../../shared/queue/protocol.js';
import { decodeTensors, encodeTensors } from '../../shared/tensors/tensor-codec.js';
import { runWorker, type WorkerEvent } from '../../worker/carrying/work-loop.js';
import { coordinateAt } from './coordinators.js';
import { scheduleFaults, describedFault, faultsOf, type Fault } from './faults.js';
import type { Violation } from './invariants.js';
import { SimulatedProcess } from './machines.js';
import { undisturbedRun, type Reference } from './reference.js';
import {
  BLOB_LIFETIME_MS,
  computedElsewhere,
  describedVariant,
  madeOnce,
  queueOf,
  RUN_NAME,
  simulatedExecutorOf,
  variantOf,
  type Variant,
} from './simulated-run.js';
import { patientSignal, ServerLink } from './simulated-server.js';
import { StoreLink } from './simulated-store.js';
import { World, type JobFault, type WorkerPlace } from './world.js';

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
const references = madeOnce<Promise<Reference>>();

function referenceOf(variant: Variant): Promise<Reference> {
  const { overlaps, leavesPerStep, stopsEarly } = variant;
  const key = JSON.stringify({ overlaps, leavesPerStep, stopsEarly });
  return references(key, () => undisturbedRun(variant));
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

const COMPUTE_MS_MIN = 100;
const COMPUTE_MS_MAX = 1_000;
/** The jobs of an outer step take a worker about as long as so many leaves, however many they are. */
const LEAVES_WORTH_OF_TIME = 8;
const STRAGGLER_MS = 4_000;

/** Successive workers in the same place, until the simulation stops. */
async function workAt(place: WorkerPlace, world: World): Promise<void> {
  for (let life = 1; !world.stopped.aborted; life += 1) {
    const name = `${place.machine.name}x${life}`;
    const process = new SimulatedProcess(name, place.machine);
    place.process = process;
    const told = new AbortController();
    const signal = patientSignal(told);
    const stop = (): void => void process.alive().then(() => told.abort());
    place.stop = stop;
    world.stopped.addEventListener('abort', stop, { once: true });
    const ended = runWorker({
      queue: queueOf(
        world.variant,
        new ServerLink(process, world.server, world.invariants.onCommand),
        new StoreLink(process, world.largeBlobs, () => undefined),
      ),
      ...{ name, nonce: name, signal },
      executor: faultyExecutor(process, place, world),
      clock: process.clock(),
      onEvent: (event) => world.note(name, JSON.stringify(withoutProcessId(event))),
    }).catch((error: unknown) => world.invariants.onWorkerEnd(name, error));
    await Promise.race([ended, process.killed]);
    world.stopped.removeEventListener('abort', stop);
    process.kill();
    place.process = null;
    await world.time.sleep(place.emptyMs, world.stopped);
  }
}

/** The id of this process is another one in each simulation. */
function withoutProcessId(event: WorkerEvent): object {
  return event.kind === 'worker-ready' ? { kind: event.kind } : event;
}

function faultyExecutor(process: SimulatedProcess, place: WorkerPlace, world: World): JobExecutor {
  const { stream } = place.machine;
  const { leavesPerStep, hasStraggler } = world.variant;
  const simulated = simulatedExecutorOf(world.variant);
  const slowMs = hasStraggler && place === world.workers[0] ? STRAGGLER_MS : 0;
  const clock = process.clock();
  return {
    execute: async (input, signal) => {
      const { job } = input;
      const { deadlyTask } = world;
      const fault = place.jobFaults.shift() ?? null;
      if (deadlyTask !== null && deadlyTask.killCount > 0)
        if ('taskIndices' in job && job.taskIndices.includes(deadlyTask.taskIndex)) {
          deadlyTask.killCount -= 1;
          world.invariants.disturb();
          process.kill();
        }
      if (fault !== null) world.invariants.disturb();
      const perLeafMs = COMPUTE_MS_MIN + stream.below(COMPUTE_MS_MAX - COMPUTE_MS_MIN);
      const computeMs = perLeafMs * leafCountOf(job);
      const takenMs = slowMs + (computeMs * LEAVES_WORTH_OF_TIME) / leavesPerStep;
      await clock.sleep(fault === 'hangs' ? job.timeoutMs : takenMs, signal);
      if (signal?.aborted === true)
        throw new QianmoError({ kind: 'interrupted', what: 'given up' });
      if (fault === 'hangs')
        throw new QianmoError({ kind: 'transient', what: 'the job passed its deadline' });
      const computed = await simulated.execute(input);
      // The time of a delivery decides how the next outer steps are cut.
      return disturbed({ ...computed, computeMs }, fault);
    },
    close: () => Promise.resolve(),
  };
}

function disturbed(computed: JobOutput, fault: JobFault | null): JobOutput {
  if (fault === 'fails')
    throw new QianmoError({ kind: 'transient', what: 'the simulated computation failed' });
  if (fault === 'disk-full')
    throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  if (fault === 'unlike') return computedElsewhere(computed);
  if (fault !== 'not-finite') return computed;
  const tensors = decodeTensors(computed.output, 'simulation');
  tensors.get('0.dense')?.values.fill(Number.NaN);
  return { ...computed, output: encodeTensors(tensors) };
}
