/**
 * Takes the lease of a run, wherever it is kept. A coordinator that works on the run makes this fail; one
 * that is dead is waited for until its lease ends, or not at all if its process is seen to have ended.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { type RunEventSink, noticeEvent } from '../../shared/events/run-events.js';
import { livenessOf } from '../../shared/storage/process-identity.js';
import type { LeaseAnswer, LeaseHolder } from '../../shared/storage/run-lease.js';
import { interrupted } from './queue-patience.js';
import { secondsText } from '../../shared/events/event-words.js';

const POLL_INTERVAL_MS = 250;

interface LeaseTerms {
  readonly run: string;
  /** The address of the queue or of the object. */
  readonly where: string;
  /** A holder says at least this often that it lives. */
  readonly beatIntervalMs: number;
  /** A holder that says nothing for this long is dead. */
  readonly silenceMsMax: number;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal?: AbortSignal;
}

/**
 * @param take asks once; it is given the mark of a holder that is known to be dead.
 * @throws QianmoError `usage` if another coordinator works on the run, `interrupted` when the signal
 *   aborts.
 */
export async function takeLease(
  take: (over: string | null) => Promise<LeaseAnswer>,
  { run, where, beatIntervalMs, silenceMsMax, clock, sink, signal }: LeaseTerms,
): Promise<number> {
  let over: string | null = null;
  let watched: { readonly mark: string; readonly untilMs: number } | null = null;
  for (;;) {
    const answer = await take(over);
    if (answer.kind === 'taken') return answer.epoch;
    const { holder, mark, run: heldRun = run } = answer;
    const liveness = livenessOf(holder.process);
    // The clock of a process that is visible here is that of this machine.
    const saidSoJustNow = clock.epochMs() - holder.beatMs < 2 * beatIntervalMs;
    const hasBeaten = watched !== null && watched.mark !== mark;
    if (hasBeaten || (liveness === 'runs' && saidSoJustNow))
      throw busy({ run, heldRun, where }, holder);
    if (watched === null && liveness !== 'ended')
      sink(
        noticeEvent(
          'lease-awaited',
          `an earlier coordinator on ${holder.process.host} has not given the run back (${where}); waiting up to ${secondsText(silenceMsMax)} for a sign of life`,
        ),
      );
    watched ??= { mark, untilMs: clock.monotonicMs() + silenceMsMax };
    const isDead = liveness === 'ended' || clock.monotonicMs() >= watched.untilMs;
    if (isDead) over = mark;
    else await clock.sleep(POLL_INTERVAL_MS, signal);
    if (signal?.aborted === true) throw interrupted();
  }
}

interface Refusal {
  readonly run: string;
  /** The run of the holder, which is another one if two runs have one output. */
  readonly heldRun: string;
  readonly where: string;
}

function busy({ run, heldRun, where }: Refusal, { process, sinceMs }: LeaseHolder): QianmoError {
  const holder = `process ${process.pid} on ${process.host}, since ${new Date(sinceMs).toISOString()}`;
  return new QianmoError({
    kind: 'usage',
    what: `another coordinator works on run ${heldRun}: ${holder}`,
    where,
    expected: 'one coordinator at a time',
    ...(heldRun === run ? {} : { found: `run ${run} asks for what run ${heldRun} has` }),
    cure: 'wait until it has finished, stop it, or give this run another name and output',
  });
}
