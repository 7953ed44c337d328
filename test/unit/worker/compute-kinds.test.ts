/** A compute process and the kind of machine that its jobs demand. Forks compiled code. */

import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import type { JobExecutor, JobInput } from '../../../shared/queue/job-executor.js';
import type { DeviceDemand } from '../../../shared/config/compute-config.js';
import { createComputeProcess } from '../../../worker/process/compute-process.js';
import { jobCaseOf, jobInputOf } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const entry = fileURLToPath(
  new URL('../../../dist/test/fixtures/compute/compute-entry.js', import.meta.url),
);

let input: JobInput;
let endings: (string | null)[] = [];
const opened: JobExecutor[] = [];

function open(device: DeviceDemand = 'auto'): ReturnType<typeof createComputeProcess> {
  endings = [];
  const executor = createComputeProcess({
    ...{ clock: systemClock, entry, environment: process.env, device },
    onEvent: (event) => {
      if (event.kind === 'compute-ended') endings.push(event.endedBecause);
    },
  });
  opened.push(executor);
  return executor;
}

beforeAll(async () => {
  const jobCase = jobCaseOf(tinyTaskStore(), { personal: ['bias', 'output'] });
  input = await jobInputOf(jobCase, [0, 1, 2], {
    kind: 'gradient',
    method: methodOf({ kind: 'fomaml', innerSteps: 1, innerRate: 0.1 }),
    taskWeights: [0.5, 0.25, 0.25],
  });
});
afterEach(async () => {
  for (const executor of opened.splice(0)) await executor.close();
});

test('a job with another instruction set gets a process of its own, and so does the next one', async () => {
  const executor = open();
  const ofInstructions = async (portable: boolean): Promise<string> => {
    const job = { ...input.job, portable };
    executor.prepare({ ...input, job });
    return (await executor.execute({ ...input, job })).fingerprint;
  };
  const plain = await ofInstructions(false);
  expect(await ofInstructions(false)).toBe(plain);
  const portable = await ofInstructions(true);
  expect(portable).not.toContain('avx512');
  expect(await ofInstructions(false)).toBe(plain);
  expect(endings).toEqual(['other-instructions', 'other-instructions']);
});

test('a job of another fingerprint is refused as a fault of this machine', async () => {
  const executor = open();
  const { fingerprint } = await executor.execute(input);
  const ofKind = (demanded: string): JobInput => ({
    ...input,
    job: { ...input.job, fingerprint: demanded },
  });
  await expect(executor.execute(ofKind('cpu-avx2-onednn-00000000'))).rejects.toMatchObject({
    report: { kind: 'environment', isOfThisMachine: true },
  });
  expect((await executor.execute(ofKind(fingerprint))).fingerprint).toBe(fingerprint);
});

test('a worker that demands a GPU refuses portable jobs', async () => {
  const executor = open('gpu');
  const job = { ...input.job, portable: true };
  await expect(executor.execute({ ...input, job })).rejects.toMatchObject({
    message: expect.stringContaining('portable jobs are computed on CPUs') as string,
    report: { kind: 'environment', isOfThisMachine: true },
  });
});
