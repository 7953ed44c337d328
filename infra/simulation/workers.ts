/** The workers of a simulation: the production work loop, over and over on each machine. */

import { QianmoError } from '../../shared/base/errors.js';
import type { JobExecutor, JobOutput } from '../../shared/queue/job-executor.js';
import { leafCountOf } from '../../shared/queue/protocol.js';
import { decodeTensors, encodeTensors } from '../../shared/tensors/tensor-codec.js';
import { runWorker, type WorkerEvent } from '../../worker/carrying/work-loop.js';
import { patientSignal, ServerLink } from './simulated-server.js';
import { SimulatedProcess } from './machines.js';
import { computedElsewhere, simulatedExecutorOf, queueOf } from './simulated-run.js';
import { StoreLink } from './simulated-store.js';
import type { JobFault, WorkerPlace, World } from './world.js';

const COMPUTE_MS_MIN = 100;
const COMPUTE_MS_MAX = 1_000;
/** The jobs of an outer step take a worker about as long as so many leaves, however many they are. */
const LEAVES_WORTH_OF_TIME = 8;
const STRAGGLER_MS = 4_000;

/** Successive workers in the same place, until the simulation stops. */
export async function workAt(place: WorkerPlace, world: World): Promise<void> {
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
