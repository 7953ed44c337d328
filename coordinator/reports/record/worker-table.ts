/** The workers of a queue as a table for a terminal. */

import { printableText } from '../../../shared/base/printable-text.js';
import type { ReportedWorker } from '../../../shared/queue/job-queue.js';
import { textTable } from '../table.js';
import { durationText } from './duration-text.js';
import { deviceText, memoryText } from './worker-words.js';

export function workersText(
  workers: readonly ReportedWorker[],
  nowMs: number,
  outputColumns: number,
): string {
  if (workers.length === 0) return 'no workers';
  return textTable(
    {
      columns: [
        { title: 'worker', alignment: 'left' },
        { title: 'device', alignment: 'left' },
        { title: 'memory' },
        { title: 'connected for' },
        { title: 'job', alignment: 'left', isOptional: true },
      ],
      rows: workers.map(({ name, sinceMs, jobId, ...worker }) => [
        printableText(name),
        printableText(deviceText(worker)),
        memoryText(worker),
        durationText(Math.max(0, nowMs - sinceMs)),
        jobId === null ? 'waits' : printableText(jobId),
      ]),
    },
    outputColumns,
  );
}
