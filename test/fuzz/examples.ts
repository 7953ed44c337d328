/** Valid jobs and messages, which the fuzzer mutates. */

import { blobRefOf } from '../../shared/storage/blob-store.js';
import { StorageConfigSchema } from '../../shared/storage/open-object-store.js';
import { PROTOCOL_VERSION, type Job } from '../../shared/queue/protocol.js';

export const exampleJob: Job = {
  ...{ protocolVersion: PROTOCOL_VERSION, epoch: 1, runId: 'fuzz', outerStep: 0, jobIndex: 0 },
  store: { address: '/nowhere', digest: 'none', storage: StorageConfigSchema.parse({}) },
  model: {
    ...{ kind: 'logistic', embeddingWidth: 1, hiddenWidths: [], adgroupEmbedding: false },
    ...{ personal: ['bias'], embeddingDeviation: 0.05 },
  },
  taskIndices: [0, 1],
  microBatchRowsMax: 1024,
  device: 'auto',
  portable: false,
  dense: blobRefOf(Uint8Array.of(1)),
  work: {
    ...{ kind: 'gradient', method: { kind: 'global' }, taskWeights: [0.5, 0.5] },
    leaves: { first: 1, stepLeafCount: 4, shapes: [[2, 4, 8, 16, 64]] },
  },
  ...{ timeoutMs: 30_000, blobLifetimeMs: 60_000 },
};

export const exampleRequests: readonly unknown[] = [
  { kind: 'start', device: 'auto' },
  { kind: 'shared', of: 'dense', sha256: 'a', bytes: 'BYTES' },
  { kind: 'prepare', requestId: 1, job: exampleJob, rowPack: 'BYTES' },
  { kind: 'execute', requestId: 1 },
];

export const exampleReplies: readonly unknown[] = [
  { kind: 'progress', requestId: 1, progress: { phase: 'reading' } },
  {
    ...{ kind: 'done', requestId: 1, output: 'BYTES', queryRowCount: 1, computeMs: 1 },
    ...{ backend: 'b', fingerprint: 'test-01234567', residentByteCount: 1 },
  },
  {
    ...{ kind: 'failed', requestId: null, residentByteCount: 1 },
    report: { kind: 'data', what: 'w', where: 'x', found: 'y', cure: 'z' },
  },
];
