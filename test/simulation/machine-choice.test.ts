/** The kind of machine that a run in a pool of several kinds computes on, in virtual time. */

import { describe, expect, it } from 'vitest';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { preferredMachine } from '../../coordinator/dispatch/admission.js';
import type { FoundDevice } from '../../shared/events/device-report.js';
import type { RunEvent } from '../../shared/events/run-events.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import type { WorkerReport } from '../../shared/queue/job-queue.js';
import { MemoryJobQueue } from '../../infra/simulation/memory-queue.js';
import { runWorker } from '../../worker/carrying/work-loop.js';
import { requireFingerprint } from '../../worker/compute/device/fingerprint.js';
import { outputOf, resultsOf } from '../conformance/dispatcher.js';
import { simulatedClock, type SimulatedClock } from '../fixtures/clocks/simulated-clock.js';
import { sampleDevice } from '../fixtures/every-event.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';

const [CPU, OTHER_CPU, GPU] = ['cpu-avx512-00000001', 'cpu-avx2-00000002', 'gpu-90-00000003'];

interface Machine {
  readonly name: string;
  readonly fingerprint: string;
  /** When it connects. */
  readonly fromMs?: number;
  /** How long it takes to measure its device then. */
  readonly measuringMs?: number;
  readonly isPortable?: boolean;
}

function reported(
  name: string,
  fingerprint: string | null,
): { name: string; report: WorkerReport } {
  const kind = fingerprint?.startsWith('gpu') === true ? 'gpu' : 'cpu';
  const device = { kind, model: 'm', memoryMiB: null, fingerprint } as const;
  return { name, report: { device, residentByteCount: 0, computeResidentByteCount: null } };
}

describe('the preferred kind', () => {
  it.each([
    ['GPUs before more CPUs', 'auto', [CPU, CPU, GPU], GPU],
    ['that of most workers', 'auto', [OTHER_CPU, CPU, CPU], CPU],
    ['the smallest fingerprint among equals', 'auto', [CPU, OTHER_CPU], OTHER_CPU],
    ['what the run demands', 'cpu', [GPU, CPU], CPU],
    ['none that the run does not demand', 'gpu', [CPU], undefined],
    ['none that nobody names', 'auto', [null], undefined],
  ] as const)('is %s', (_, device, fingerprints, expected) => {
    const workers = fingerprints.map((each, n) => reported(`w${n}`, each ?? null));
    for (const order of [workers, [...workers].reverse()])
      expect(preferredMachine(order, { device })?.fingerprint).toBe(expected);
  });

  it('is none where nobody reports', () => {
    expect(preferredMachine([{ name: 'w', report: null }], { device: 'auto' })).toBeNull();
  });
});

function executorOn(
  clock: SimulatedClock,
  { fingerprint, measuringMs = 0, isPortable = false }: Machine,
): JobExecutor {
  const measuredMs = clock.monotonicMs() + measuringMs;
  const kind = fingerprint.startsWith('gpu') ? 'gpu' : 'cpu';
  const device: FoundDevice = { ...sampleDevice, device: kind, fingerprint, isPortable };
  return {
    foundDevice: () => (clock.monotonicMs() < measuredMs ? null : device),
    execute: async (input) => {
      await clock.sleep(Math.max(0, measuredMs - clock.monotonicMs()) + 100);
      requireFingerprint(input.job.fingerprint, device);
      return { ...outputOf(input), fingerprint };
    },
    close: () => Promise.resolve(),
  };
}

/** Returns the fingerprints of the results, and the events of the run, which begins at 1 s. */
async function computedOn(
  machines: readonly Machine[],
): Promise<{ readonly fingerprints: readonly string[]; readonly events: readonly RunEvent[] }> {
  const clock = simulatedClock();
  const queue = new MemoryJobQueue({ clock });
  const events: RunEvent[] = [];
  const stop = new AbortController();
  const { signal } = stop;
  const work = async (machine: Machine): Promise<void> => {
    await clock.sleep(machine.fromMs ?? 0);
    const { name } = machine;
    const executor = executorOn(clock, machine);
    await runWorker({ queue, name, nonce: name, clock, signal, executor });
  };
  return clock.run(async () => {
    const workers = machines.map(work);
    await clock.sleep(1_000);
    const dispatcher = await createQueueDispatcher({
      ...{ queue, limits: queueConfig(), runId: 'run', nonce: 'first', clock },
      sink: (event) => void events.push(event),
    });
    const results = await resultsOf(dispatcher, 6);
    await dispatcher.close();
    stop.abort();
    await Promise.all(workers);
    return { fingerprints: [...new Set(results.map(({ result }) => result.fingerprint))], events };
  });
}

// Seen to fail: the CPU answered first and decided.
describe('a run that demands no kind', () => {
  it.each([
    ['that are ready', {}, {}],
    ['of which it measures its device', {}, { measuringMs: 4_000 }],
    [
      'of which none is there at the beginning',
      { fromMs: 2_000 },
      { fromMs: 2_000, measuringMs: 3_000 },
    ],
  ])('is computed on the GPU of a pool of two workers %s', async (_, cpu, gpu) => {
    const { fingerprints, events } = await computedOn([
      { name: 'cpu', fingerprint: CPU, ...cpu },
      { name: 'gpu', fingerprint: GPU, ...gpu },
    ]);
    expect(fingerprints).toEqual([GPU]);
    expect(events.filter(({ kind }) => kind === 'fingerprint-taken')).toMatchObject([
      { fingerprint: GPU, fromWorker: 'gpu' },
    ]);
  });

  it('is computed on the CPU where the GPU is not ready for long', async () => {
    const { fingerprints } = await computedOn([
      { name: 'cpu', fingerprint: CPU },
      { name: 'gpu', fingerprint: GPU, measuringMs: 60_000 },
    ]);
    expect(fingerprints).toEqual([CPU]);
  });

  it('is computed by workers whose process computes portable jobs, where there are no others', async () => {
    const { fingerprints } = await computedOn([
      { name: 'cpu', fingerprint: CPU, isPortable: true },
    ]);
    expect(fingerprints).toEqual([CPU]);
  });
});
