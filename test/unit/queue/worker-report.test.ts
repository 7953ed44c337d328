// Reports of workers about themselves: what is kept of it, and what counts as nothing.

import { describe, expect, it } from 'vitest';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { workersDocument } from '../../../coordinator/reports/run-documents.js';
import {
  decodeWorkerReport,
  encodeWorkerReport,
  type WorkerReport,
} from '../../../shared/queue/worker-report.js';

const MIB = 1024 * 1024;
const report: WorkerReport = {
  device: {
    ...{ kind: 'cpu', model: 'a processor', memoryMiB: null },
    fingerprint: 'cpu-avx512-onednn-3f9a1c22',
  },
  ...{ residentByteCount: 90 * MIB, computeResidentByteCount: 410 * MIB },
};

describe('a report', () => {
  it('is read as it was written', () => {
    expect(decodeWorkerReport(encodeWorkerReport(report))).toEqual(report);
    const { fingerprint: _fingerprint, ...earlier } = report.device!;
    const ofEarlierVersion = { ...report, device: earlier };
    expect(decodeWorkerReport(encodeWorkerReport(ofEarlierVersion))).toEqual(ofEarlierVersion);
    const unknown = { ...report, device: null, computeResidentByteCount: null };
    expect(decodeWorkerReport(encodeWorkerReport(unknown))).toEqual(unknown);
  });

  it('has a bounded name of the device', () => {
    const device = { kind: 'gpu', model: ` ${'é'.repeat(400)}`, memoryMiB: 1 } as const;
    const read = decodeWorkerReport(encodeWorkerReport({ ...report, device }));
    expect(read?.device?.model).toBe('é'.repeat(100));
  });

  it.each([
    ['nothing', null],
    [
      'a fingerprint that is none',
      encodeWorkerReport(report).replace('cpu-avx512-onednn-3f9a1c22', 'fast'),
    ],
    ['another version', encodeWorkerReport(report).replace('"version":1', '"version":2')],
    ['an unknown field', encodeWorkerReport(report).replace('{', '{"more":1,')],
    ['a negative number', JSON.stringify({ version: 1, ...report, residentByteCount: -1 })],
    ['half a text', encodeWorkerReport(report).slice(0, 40)],
    ['a long text', `${encodeWorkerReport(report)}${' '.repeat(600)}`],
  ])('counts as none: %s', (_what, text) => {
    expect(decodeWorkerReport(text)).toBeNull();
  });
});

it('is a column of the table of workers, which says what was not reported', () => {
  const worker = { instance: 'i', sinceMs: 0, jobId: null };
  const gpu = { kind: 'gpu', model: 'NVIDIA H100', memoryMiB: 81_559 } as const;
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
