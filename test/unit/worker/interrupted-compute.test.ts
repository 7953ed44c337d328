// Signals that a compute process handles while it computes, as Ctrl-C sends them to all processes of a
// terminal. Seen to fail without `signals.cc`: the process died of a corrupted heap.

import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import { createComputeProcess } from '../../../worker/process/compute-process.js';
import { jobCaseOf, jobInputOf } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const entry = fileURLToPath(
  new URL('../../../dist/test/fixtures/compute/compute-entry.js', import.meta.url),
);

/** Whether the process has a handler for SIGUSR2, which is signal 12; Node itself has none. */
function handlesSignal(pid: number): boolean {
  const [, mask = '0'] =
    /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (BigInt(`0x${mask}`) & (1n << 11n)) !== 0n;
}

test('signals change no bit of a result, and end no process', async () => {
  const jobCase = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
  const input = await jobInputOf(jobCase, [0, 1, 2], {
    kind: 'gradient',
    method: methodOf({ kind: 'fomaml', innerSteps: 3, innerRate: 0.1 }),
    taskWeights: [0.5, 0.25, 0.25],
  });
  const started: number[] = [];
  const ended: unknown[] = [];
  const create = () =>
    createComputeProcess({
      ...{ clock: systemClock, entry, environment: process.env },
      onEvent: (event) => {
        if (event.kind === 'compute-started') started.push(event.pid);
        if (event.kind === 'compute-ended') ended.push(event.signal);
      },
    });
  const undisturbed = create();
  const expected = await undisturbed.execute(input);
  await undisturbed.close();
  ended.length = 0;

  const executor = create();
  const over = new AbortController();
  const executing = executor.execute(input).finally(() => over.abort());
  let signalCount = 0;
  while (!over.signal.aborted) {
    const pid = started[1];
    if (pid !== undefined && ended.length === 0 && handlesSignal(pid)) {
      process.kill(pid, 'SIGUSR2');
      signalCount += 1;
    }
    await setImmediate();
  }
  const { output } = await executing;
  expect(ended).toEqual([]);
  await executor.close();
  expect(signalCount).toBeGreaterThan(100);
  expect(Buffer.from(output).equals(Buffer.from(expected.output))).toBe(true);
});
