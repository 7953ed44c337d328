/**
 * Reports the progress of the job under way: at once that its thread is about to be blocked, micro-batches at a
 * bounded rate, and the latest progress at intervals while the thread is free. Rows are mostly there when a job
 * begins, so that it reads is told only if it takes long.
 */

import type { Clock } from '../../../shared/base/clock.js';
import type { ComputeReply, JobProgress, OnProgress } from '../../process/compute-protocol.js';

/** The least time between two messages of one phase. */
const REPORT_INTERVAL_MS = 100;
/** The time between two repeated messages of an idle thread. */
const BEAT_INTERVAL_MS = 1_000;

export interface ProgressReporter {
  readonly report: OnProgress;
  /** Begins the reports of a job; the returned function ends them. */
  begin(requestId: number): () => void;
}

export function progressReporter(
  send: (reply: ComputeReply) => void,
  clock: Clock,
): ProgressReporter {
  let underWay: { readonly requestId: number; latest: JobProgress | null; sentMs: number } | null =
    null;

  const sendLatest = (): void => {
    if (underWay === null || underWay.latest === null) return;
    underWay.sentMs = clock.monotonicMs();
    send({ kind: 'progress', requestId: underWay.requestId, progress: underWay.latest });
  };
  const beat = async (ended: AbortSignal): Promise<void> => {
    for (;;) {
      await clock.sleep(BEAT_INTERVAL_MS, ended);
      if (ended.aborted) return;
      sendLatest();
    }
  };

  return {
    report: (progress) => {
      if (underWay === null) return;
      const isOtherPhase = progress.phase !== underWay.latest?.phase;
      underWay.latest = progress;
      if (progress.phase === 'reading') return;
      if (isOtherPhase || clock.monotonicMs() - underWay.sentMs >= REPORT_INTERVAL_MS) sendLatest();
    },
    begin: (requestId) => {
      const ended = new AbortController();
      underWay = { requestId, latest: null, sentMs: 0 };
      void beat(ended.signal);
      return () => {
        ended.abort();
        underWay = null;
      };
    },
  };
}
