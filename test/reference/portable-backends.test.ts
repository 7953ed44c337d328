// The portable backends compute the gradients of the native one, though eagerly. A backend is chosen for a whole process.

import { beforeAll, expect, test } from 'vitest';
import { DeviceReportSchema } from '../../shared/events/device-report.js';
import { measureDevice } from '../../worker/compute/device/measure-device.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import {
  jobCaseOf,
  relativeDifference,
  runJob,
  type CaseWork,
  type NamedOutput,
} from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';

const STEPS = { innerSteps: 2, innerRate: 0.2 };
const METHODS = {
  fomaml: methodOf({ kind: 'fomaml', ...STEPS }),
  'paml-gate': methodOf({
    ...{ kind: 'paml-gate', ...STEPS, preferenceWidth: 3, attributes: ['category1'] },
  }),
};
const model = {
  ...{ embeddingWidth: 4, hiddenWidths: [6, 5], adgroupEmbedding: true },
  personal: ['bias', 'numbers', 'layer1', 'output', 'adgroupEmbedding'],
};

type Kind = keyof typeof METHODS;

const store = tinyTaskStore({ taskCount: 4, bags: [{ rowCount: 6, lengthMax: 3 }], counts: true });

async function gradientBy(
  backend: 'tensorflow' | 'cpu' | 'wasm',
  kind: Kind,
): Promise<NamedOutput> {
  const method = METHODS[kind];
  const jobCase = jobCaseOf({ ...store, digest: kind }, model, 5, method);
  const openStore = () => Promise.resolve(jobCase.store);
  const executor = await createExecutor({ openStore, backend });
  try {
    const report = await measureDevice(executor.engine, process.env);
    expect(DeviceReportSchema.parse(report)).toEqual(report);
    if (backend !== 'tensorflow') expect(executor.backend).toContain(backend);
    const work: CaseWork = { kind: 'gradient', method, taskWeights: [0.2, 0.3, 0.5] };
    return await runJob(executor, jobCase, [1, 2, 3], work);
  } finally {
    await executor.close();
  }
}

const native = new Map<Kind, NamedOutput>();
beforeAll(async () => {
  for (const kind of ['fomaml', 'paml-gate'] as const)
    native.set(kind, await gradientBy('tensorflow', kind));
});

test.each([
  ['cpu', 'fomaml'],
  ['wasm', 'fomaml'],
  ['cpu', 'paml-gate'],
] as const)('%s agrees with the native backend: %s', async (backend, kind) => {
  const { tensors } = await gradientBy(backend, kind);
  for (const [name, values] of native.get(kind)!.tensors)
    expect(relativeDifference(tensors.get(name)!, values, 0.1), name).toBeLessThan(1e-5);
});
