/** The column of the table of workers about their devices and memory. */

import { expect, it } from 'vitest';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { workersDocument } from '../../../coordinator/reports/run-documents.js';
import type { WorkerReport } from '../../../shared/queue/job-queue.js';

const MIB = 1024 * 1024;
const report: WorkerReport = {
  device: {
    ...{ kind: 'cpu', model: 'a processor', memoryMiB: null },
    fingerprint: 'cpu-avx512-onednn-3f9a1c22',
  },
  ...{ residentByteCount: 90 * MIB, computeResidentByteCount: 410 * MIB },
};

it('is a column of the table of workers, which says what was not reported', () => {
  const worker = { instance: 'i', sinceMs: 0, jobId: null };
  const gpu = { kind: 'gpu', model: 'NVIDIA H100', memoryMiB: 81_559, fingerprint: null } as const;
  const workers = [
    { ...worker, name: 'a', device: 'auto', report },
    {
      ...worker,
      name: 'b',
      device: 'gpu',
      report: { ...report, device: gpu, computeResidentByteCount: null },
    },
    { ...worker, name: 'c', device: 'auto', report: null },
    { ...worker, name: 'd', device: 'cpu', report: null },
  ] as const;
  const text = asText(workersDocument(workers, 1_000), 200);
  expect(text.split('\n').map((line) => line.replaceAll(/ +/g, ' ').trim())).toEqual(
    expect.arrayContaining([
      expect.stringContaining('a CPU (a processor) 90 + 410 MiB'),
      expect.stringContaining('b GPU (NVIDIA H100, 80 GiB) 90 MiB'),
      expect.stringContaining('c not reported not reported'),
      expect.stringContaining('d cpu not reported'),
    ]),
  );
});
