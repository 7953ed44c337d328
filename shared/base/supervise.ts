/** Keeps child processes alive: restarts with backoff, and an end in bounded time. */

import type { ChildProcess } from 'node:child_process';
import type { Clock } from './clock.js';

const RESTART_DELAY_MS_MIN = 200;
const RESTART_DELAY_MS_MAX = 10_000;
/** A process that lived this long restarts without the delay of earlier failures. */
const HEALTHY_MS = 30_000;

interface Supervision<End> {
  readonly clock: Clock;
  readonly stopping: AbortSignal;
  /** Runs a process once, and resolves when it has ended. */
  readonly runOnce: () => Promise<End>;
  /** Returns false if the process must not be started again. */
  readonly onEnd: (end: End, restartMs: number) => boolean;
  readonly onRestart?: () => void;
}

/** Runs one process again and again, until stopped. */
export async function superviseProcess<End>(supervision: Supervision<End>): Promise<void> {
  const { clock, stopping, runOnce, onEnd, onRestart } = supervision;
  const isStopping = (): boolean => stopping.aborted;
  let restartMs = RESTART_DELAY_MS_MIN / 2;
  while (!isStopping()) {
    const startedMs = clock.monotonicMs();
    const end = await runOnce();
    if (isStopping()) return;
    const isHealthy = clock.monotonicMs() - startedMs > HEALTHY_MS;
    restartMs = isHealthy ? RESTART_DELAY_MS_MIN : Math.min(restartMs * 2, RESTART_DELAY_MS_MAX);
    if (!onEnd(end, restartMs)) return;
    await clock.sleep(restartMs, stopping);
    if (!isStopping()) onRestart?.();
  }
}

/** Waits until all processes have ended, and kills those that take too long. */
export async function endInTime(
  running: { values(): Iterable<ChildProcess> },
  ended: Promise<unknown>,
  { clock, graceMs }: { readonly clock: Clock; readonly graceMs: number },
): Promise<void> {
  const inTime = new AbortController();
  void clock.sleep(graceMs, inTime.signal).then(() => {
    if (!inTime.signal.aborted) for (const child of running.values()) child.kill('SIGKILL');
  });
  await ended;
  inTime.abort();
}
