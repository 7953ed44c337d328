/** The workers of a queue as a table for a terminal. */

import { printableText } from '../../../shared/base/printable-text.js';
import type { ConnectedWorker } from '../../../shared/queue/job-queue.js';
import { textTable } from '../table.js';
import { durationText } from './duration-text.js';

export function workersText(
  workers: readonly ConnectedWorker[],
  nowMs: number,
  outputColumns: number,
): string {
  if (workers.length === 0) return 'no workers';
  return textTable(
    {
      columns: [
        { title: 'worker', alignment: 'left' },
        { title: 'device', alignment: 'left' },
        { title: 'connected for' },
        { title: 'job', alignment: 'left', isOptional: true },
      ],
      rows: workers.map(({ name, device, sinceMs, jobId }) => [
        printableText(name),
        printableText(device),
        durationText(Math.max(0, nowMs - sinceMs)),
        jobId === null ? 'waits' : printableText(jobId),
      ]),
    },
    outputColumns,
  );
}
