/** The simulated cluster: its machines, its server, its object store and the processes at work. */

import { createHash } from 'node:crypto';
import { randomStream } from '../../shared/base/random.js';
import { Invariants } from './invariants.js';
import type { Reference } from './reference.js';
import { patientSignal, SimulatedServer } from './simulated-server.js';
import { Machine, VirtualTime, type SimulatedProcess } from './machines.js';
import { SimulatedStore } from './simulated-store.js';
import type { Variant } from './simulated-run.js';

/** The fault that the next job of a worker meets. */
export type JobFault = 'unlike' | 'fails' | 'not-finite' | 'hangs' | 'disk-full';

/** A machine and the process that runs on it at present. */
export interface Place {
  readonly machine: Machine;
  process: SimulatedProcess | null;
  /** Tells the process to stop, as SIGTERM does. */
  stop: () => void;
  /** How long the place stays empty after its process has ended. */
  emptyMs: number;
}

export interface WorkerPlace extends Place {
  readonly jobFaults: JobFault[];
}

/** Kills the workers that compute it, a few times. */
interface DeadlyTask {
  readonly taskIndex: number;
  killCount: number;
}

/** Runs coordinators at a place until the run is complete. */
type Coordinate = (place: Place, world: World) => Promise<unknown>;

interface WorldOptions {
  readonly seed: number;
  readonly variant: Variant;
  readonly workerCount: number;
  readonly keepsLines: boolean;
  readonly reference: Reference;
  readonly coordinate: Coordinate;
}

export class World {
  readonly time = new VirtualTime();
  readonly seed: number;
  readonly variant: Variant;
  readonly server: SimulatedServer;
  readonly store: SimulatedStore;
  /** The object store of large blobs, where the run has one. */
  readonly largeBlobs: SimulatedStore;
  readonly workers: WorkerPlace[];
  readonly coordinators: Place[];
  readonly invariants: Invariants;
  readonly #stop = new AbortController();
  readonly stopped: AbortSignal;
  deadlyTask: DeadlyTask | null = null;
  /** Resolves when the second coordinator has ended; null while none was started. */
  secondCoordinator: Promise<unknown> | null = null;
  readonly #coordinate: Coordinate;
  eventCount = 0;
  readonly #hash = createHash('sha256');
  /** All events, if they are wanted. */
  readonly lines: string[] | null;

  constructor({ seed, variant, workerCount, keepsLines, reference, coordinate }: WorldOptions) {
    this.seed = seed;
    this.variant = variant;
    this.#coordinate = coordinate;
    this.stopped = patientSignal(this.#stop);
    this.lines = keepsLines ? [] : null;
    this.server = new SimulatedServer(this.#machine('server'));
    this.store = new SimulatedStore(this.#machine('store'));
    this.largeBlobs = new SimulatedStore(this.#machine('large blobs'));
    this.workers = Array.from({ length: workerCount }, (_, index) => ({
      machine: this.#machine(`worker${index}`),
      ...{ process: null, jobFaults: [], stop: () => undefined, emptyMs: 1_000 },
    }));
    this.coordinators = [0, 1].map((index) => ({
      machine: this.#machine(`coordinator${index}`),
      ...{ process: null, stop: () => undefined, emptyMs: 5_000 },
    }));
    this.invariants = new Invariants(this, reference);
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Starts the command on another machine, once, while the first one may still work. */
  startSecondCoordinator(): void {
    const [, second] = this.coordinators;
    if (second !== undefined) this.secondCoordinator ??= this.#coordinate(second, this);
  }

  /** Records an event in the list that the seed decides. */
  note(by: string, what: string): void {
    this.eventCount += 1;
    const line = `${this.time.nowMs.toFixed(3)} ${by} ${what}`;
    this.#hash.update(`${line}\n`);
    this.lines?.push(line);
  }

  digestOfEvents(): string {
    return this.#hash.copy().digest('hex');
  }

  #machine(name: string): Machine {
    return new Machine(name, this.time, randomStream(this.seed, 'machine', name));
  }
}
