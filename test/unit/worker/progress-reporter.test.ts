// The reports of a compute process about its job: each phase, and a bounded number of micro-batches.

import { describe, expect, it } from 'vitest';
import type { ComputeReply } from '../../../worker/process/compute-protocol.js';
import { createExecutor } from '../../../worker/compute/job/create-executor.js';
import { progressReporter } from '../../../worker/compute/job/serve-requests.js';
import { jobCaseOf, jobInputOf } from '../../fixtures/compute/compute-inputs.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

function scene() {
  const sent: ComputeReply[] = [];
  let beat = (): void => undefined;
  const time = instantClock();
  const clock = {
    ...time,
    sleep: (_: number, signal?: AbortSignal) =>
      new Promise<void>((resolve) => {
        beat = resolve;
        signal?.addEventListener('abort', () => resolve());
      }),
  };
  const reporter = progressReporter((reply) => void sent.push(reply), clock);
  const advance = (durationMs: number): void => time.advance(durationMs);
  return { sent, reporter, advance, beat: () => beat() };
}

const batch = (number: number) => ({
  phase: 'computing' as const,
  microBatch: { number, count: 100 },
});

describe('progressReporter', () => {
  it('reports at once that it computes, and micro-batches at a bounded rate', () => {
    const { sent, reporter, advance } = scene();
    const end = reporter.begin(7);
    reporter.report({ phase: 'reading' });
    expect(sent).toEqual([]);
    reporter.report({ phase: 'computing' });
    for (let number = 1; number <= 100; number += 1) {
      reporter.report(batch(number));
      advance(10);
    }
    end();
    const numbers = sent.flatMap((reply) =>
      reply.kind === 'progress' ? (reply.progress.microBatch?.number ?? 0) : [],
    );
    expect(numbers).toEqual([0, 11, 21, 31, 41, 51, 61, 71, 81, 91]);
    expect(sent.every((reply) => 'requestId' in reply && reply.requestId === 7)).toBe(true);
  });

  it('says no more of a job that was announced than what its parent does not know', async () => {
    const { sent, reporter, beat } = scene();
    reporter.begin(7, true);
    reporter.report({ phase: 'reading' });
    reporter.report({ phase: 'computing' });
    expect(sent).toEqual([]);
    reporter.report({ phase: 'reading' });
    beat();
    await Promise.resolve();
    await Promise.resolve();
    reporter.report({ phase: 'computing' });
    const phases = sent.map((reply) => (reply.kind === 'progress' ? reply.progress.phase : null));
    expect(phases).toEqual(['reading', 'computing']);
  });

  it('repeats the latest while the thread is free, and nothing after the job has ended', async () => {
    const { sent, reporter, beat } = scene();
    const end = reporter.begin(1);
    reporter.report({ phase: 'reading' });
    beat();
    await Promise.resolve();
    await Promise.resolve();
    expect(sent).toHaveLength(1);
    end();
    beat();
    await Promise.resolve();
    reporter.report({ phase: 'computing' });
    expect(sent).toHaveLength(1);
  });
});

it('an executor reports its phases and micro-batches, counted from 1', async () => {
  const seen: string[] = [];
  const store = tinyTaskStore();
  const executor = await createExecutor({
    openStore: () => Promise.resolve(store),
    onProgress: ({ phase, microBatch }) =>
      seen.push(
        microBatch === undefined ? phase : `${phase} ${microBatch.number}/${microBatch.count}`,
      ),
  });
  const input = await jobInputOf(
    jobCaseOf(store, { personal: ['bias'] }),
    [0, 1, 2, 3],
    {
      kind: 'gradient',
      method: methodOf({ kind: 'fomaml', innerSteps: 1, innerRate: 0.1 }),
      taskWeights: [0.25, 0.25, 0.25, 0.25],
    },
    1,
  );
  await executor.execute(input);
  await executor.close();
  const batches = ['computing 1/4', 'computing 2/4', 'computing 3/4', 'computing 4/4'];
  expect(seen).toEqual(['reading', 'computing', ...batches]);
});
