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
  /**
   * Begins the reports of a job; the returned function ends them.
   *
   * @param isAnnounced whether the parent was told with the answer before that the thread turns to this job.
   */
  begin(requestId: number, isAnnounced?: boolean): () => void;
}

interface ReportedJob {
  readonly requestId: number;
  latest: JobProgress | null;
  /** The phase that the parent knows of. */
  toldPhase: JobProgress['phase'] | null;
  sentMs: number;
}

export function progressReporter(
  send: (reply: ComputeReply) => void,
  clock: Clock,
): ProgressReporter {
  let underWay: ReportedJob | null = null;

  const sendLatest = (): void => {
    if (underWay === null || underWay.latest === null) return;
    underWay.sentMs = clock.monotonicMs();
    underWay.toldPhase = underWay.latest.phase;
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
      const isOtherPhase = progress.phase !== underWay.toldPhase;
      underWay.latest = progress;
      if (progress.phase === 'reading') return;
      if (isOtherPhase || clock.monotonicMs() - underWay.sentMs >= REPORT_INTERVAL_MS) sendLatest();
    },
    begin: (requestId, isAnnounced = false) => {
      const ended = new AbortController();
      const told = isAnnounced
        ? { toldPhase: 'computing' as const, sentMs: clock.monotonicMs() }
        : { toldPhase: null, sentMs: 0 };
      underWay = { requestId, latest: null, ...told };
      void beat(ended.signal);
      return () => {
        // A reason of one's own spares the exception that the platform would make for each job.
        ended.abort('ended');
        underWay = null;
      };
    },
  };
}
