/** The coordinators of a simulation: the production outer loop on the production dispatcher, lease and checkpoints. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { z } from 'zod';
import { isInterruption, QianmoError } from '../../shared/base/errors.js';
import { objectStoreAway, objectStoreBack, type RunEvent } from '../../shared/events/run-events.js';
import { openCheckpoints } from '../../coordinator/checkpoints/checkpoint-writer.js';
import { claimRun } from '../../coordinator/dispatch/run-lease.js';
import type { HeldLease } from '../../shared/storage/lease.js';
import type { Dispatcher, JobOrder } from '../../coordinator/dispatch/dispatcher.js';
import { removeLargeBlobs } from '../../shared/queue/large-blobs.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { StoreWait, waitingStore } from '../../shared/storage/waiting-object-store.js';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import type { JobResult } from '../../shared/queue/protocol.js';
import type { RunCaller } from '../../coordinator/plan/prepared-run.js';
import { train } from '../../coordinator/training/outer-loop.js';
import type { TrainingOutcome } from '../../coordinator/training/train-options.js';
import { patientSignal, ServerLink } from './simulated-server.js';
import { SimulatedProcess } from './machines.js';
import {
  checkpointIdentityOf,
  LARGE_BLOBS,
  simulatedLossOf,
  simulatedRunOf,
  queueOf,
} from './simulated-run.js';
import { StoreLink } from './simulated-store.js';
import type { Place, World } from './world.js';

/** An operator starts the command again this often. */
const LIVES_MAX = 60;
const RESTART_MS_MIN = 2_000;
const STORE_WAIT_MS = 600_000;
const STOPPED = new QianmoError({ kind: 'interrupted', what: 'stopped on request' });

/** Successive coordinators in the same place, each resuming the run, until one has completed it. */
export async function coordinateAt(place: Place, world: World): Promise<TrainingOutcome | null> {
  let fresh = false;
  for (let life = 1; life <= LIVES_MAX; life += 1) {
    const process = new SimulatedProcess(`${place.machine.name}x${life}`, place.machine);
    place.process = process;
    world.note(process.name, 'starts');
    const told = new AbortController();
    place.stop = () => void process.alive().then(() => told.abort(STOPPED));
    const start = { fresh, signal: patientSignal(told) };
    const ended = coordinated(process, world, start).catch((error: unknown) => {
      // Where every checkpoint is damaged, the message says to start again.
      fresh = error instanceof QianmoError && error.kind === 'data';
      world.note(process.name, `ends: ${error instanceof Error ? error.message : String(error)}`);
      world.invariants.onCoordinatorEnd(process, error, told.signal.aborted);
      return null;
    });
    const outcome = await Promise.race([ended, process.killed]);
    process.kill();
    place.process = null;
    world.invariants.onLifeEnd(process);
    if (outcome !== null) return outcome;
    await world.time.sleep(Math.max(place.emptyMs, RESTART_MS_MIN));
  }
  world.invariants.violate('the run ends', `no end after ${LIVES_MAX} starts of its coordinator`);
  return null;
}

async function coordinated(
  process: SimulatedProcess,
  world: World,
  { fresh, signal }: { readonly fresh: boolean; readonly signal: AbortSignal },
): Promise<TrainingOutcome> {
  const { config } = simulatedRunOf(world.variant);
  const { invariants } = world;
  const clock = process.clock();
  const sink = (event: RunEvent): void => {
    world.note(process.name, JSON.stringify(event));
    invariants.onEvent(process, event);
  };
  const identity = process.identity();
  const caller = { clock, sink, signal };
  const largeStore = new StoreLink(process, world.largeBlobs, () => undefined);
  const largeBlobs = world.variant.hasLargeBlobs ? LARGE_BLOBS : undefined;
  const link = new ServerLink(process, world.server, invariants.onCommand);
  const dispatcher = await createQueueDispatcher({
    queue: queueOf(world.variant, link, largeStore),
    largeBlobs,
    ...{ limits: config.queue, runId: config.run, nonce: process.name, process: identity },
    ...caller,
  });
  try {
    // Nobody else needs what lies there, since the lease of the run is taken.
    if (largeBlobs !== undefined) await removeLargeBlobs(largeBlobs, () => largeStore);
    const link = new StoreLink(process, world.store, invariants.onStoreChange);
    const store = patientStore(link, world, caller);
    const start = process.name;
    const claim = await claimRun({ store, run: config.run, start, process: identity, ...caller });
    try {
      return await trained({ process, world, claim, store, fresh }, dispatcher, caller);
    } catch (error) {
      if (claim.lost.aborted && isInterruption(error)) await claim.demand();
      throw error;
    } finally {
      await claim.release();
    }
  } finally {
    await dispatcher.close();
  }
}

interface Training {
  readonly process: SimulatedProcess;
  readonly world: World;
  readonly claim: HeldLease;
  readonly store: ObjectStore;
  readonly fresh: boolean;
}

/** As a run on a bucket has it. */
function patientStore(store: StoreLink, { variant }: World, caller: RunCaller): ObjectStore {
  if (!variant.waitsForStore) return store;
  const { clock, signal, sink } = caller;
  const wait = new StoreWait({
    ...{ clock, signal, waitMs: STORE_WAIT_MS, waitField: 'queue.outerStepTimeoutMs' },
    onAway: (outage) => sink(objectStoreAway(outage)),
    onBack: (awayMs) => sink(objectStoreBack(awayMs)),
  });
  return waitingStore(store, wait);
}

async function trained(
  { process, world, claim, store, fresh }: Training,
  dispatcher: Dispatcher,
  caller: RunCaller,
): Promise<TrainingOutcome> {
  const run = simulatedRunOf(world.variant);
  const number = world.invariants.numberOf(process);
  const packs = new EncodedPacks();
  const outcome = await train({
    run,
    dispatcher: watched(dispatcher, packs, process, world),
    ...(world.variant.stopsEarly ? { validationLoss: simulatedLossOf } : {}),
    checkpoints: openCheckpoints({
      ...checkpointIdentityOf(run),
      ...{ store, kept: run.config.training.checkpointsKept, claim },
      ...{ clock: caller.clock, sink: caller.sink },
      coordinator: `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`,
    }),
    start: { resume: !fresh, fresh },
    caller: { ...caller, signal: eitherOf(caller.signal, claim.lost) },
  });
  world.invariants.onPacksLeft(process, packs.lingeringCount());
  return outcome;
}

/** Node keeps what listens to `AbortSignal.any`, and with it the world of a coordinator that was killed. */
function eitherOf(...sources: readonly AbortSignal[]): AbortSignal {
  const stop = new AbortController();
  for (const source of sources) {
    const abort = (): void => stop.abort(source.reason);
    if (source.aborted) abort();
    else source.addEventListener('abort', abort, { once: true });
  }
  return stop.signal;
}

/** Shows each admitted result to the invariants. */
function watched(
  dispatcher: Dispatcher,
  packs: EncodedPacks,
  process: SimulatedProcess,
  world: World,
): Dispatcher {
  return {
    ...dispatcher,
    run(orders, read, signal, terms) {
      const admitted = new Set<number>();
      const held = new HeldByCall(packs);
      const shown = ({ result }: { readonly result: JobResult }): void => {
        const { jobIndex } = result;
        const order = orders.find(({ job }) => job.jobIndex === jobIndex);
        const isSecond = admitted.has(jobIndex);
        world.invariants.onHeld(process, held);
        world.invariants.onAdmitted(process, order?.job, { result, isSecond });
        admitted.add(jobIndex);
      };
      const watchedOrders = held.watched(orders);
      return each(dispatcher.run(watchedOrders, read, signal, terms), shown);
    },
  };
}

async function* each<Element>(
  elements: AsyncIterable<Element>,
  show: (element: Element) => void,
): AsyncGenerator<Element> {
  for await (const element of elements) {
    show(element);
    yield element;
  }
}

/** The latest outer steps may still be in use: the one under way, those that overlap it, and the last one. */
const LATEST_STEP_COUNT = 4;

/** The row packs that one coordinator has encoded, by outer step. */
class EncodedPacks {
  readonly #packs: { readonly outerStep: number; readonly bytes: WeakRef<Uint8Array> }[] = [];

  add(outerStep: number, bytes: Uint8Array): void {
    this.#packs.push({ outerStep, bytes: new WeakRef(bytes) });
  }

  /** The number of row packs that are still in memory although their outer steps are long over. */
  lingeringCount(): number {
    // The first collection may end one that began while the row packs were in use, which keeps them.
    collectGarbage();
    collectGarbage();
    const latest = this.#packs.reduce((most, { outerStep }) => Math.max(most, outerStep), 0);
    return this.#packs.filter(
      ({ outerStep, bytes }) =>
        outerStep <= latest - LATEST_STEP_COUNT && bytes.deref() !== undefined,
    ).length;
  }
}

/** The row packs that one call of a dispatcher holds. */
class HeldByCall {
  readonly #all: EncodedPacks;
  readonly #packs = new Set<JobOrder>();

  constructor(all: EncodedPacks) {
    this.#all = all;
  }

  get packCount(): number {
    return this.#packs.size;
  }

  watched(orders: readonly JobOrder[]): JobOrder[] {
    return orders.map((order) => this.#watchedOrder(order));
  }

  #watchedOrder(order: JobOrder): JobOrder {
    const [packs, all] = [this.#packs, this.#all];
    const watched: JobOrder = {
      ...{ job: order.job, dense: order.dense, frozen: order.frozen },
      ...(order.parts === undefined ? {} : { parts: order.parts }),
      get rowPack() {
        const { rowPack } = order;
        if (rowPack !== null && !packs.has(watched)) all.add(order.job.outerStep, rowPack);
        if (rowPack !== null) packs.add(watched);
        return rowPack;
      },
      settled: () => {
        const { rowPack } = order;
        order.settled?.();
        // One that is encoded again was let go.
        if (order.rowPack === rowPack) return;
        order.settled?.();
        packs.delete(watched);
      },
    };
    return watched;
  }
}

let collect: (() => void) | null = null;

function collectGarbage(): void {
  if (collect === null) {
    setFlagsFromString('--expose-gc');
    collect = z
      .custom<() => void>((found) => typeof found === 'function')
      .parse(runInNewContext('gc'));
  }
  collect();
}
