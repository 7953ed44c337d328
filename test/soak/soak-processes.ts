/**
 * The processes of a soak that are struck again and again: workers, which are started anew, and a
 * coordinator, whose run is resumed until it ends with the digest of an undisturbed run.
 */

import { systemClock } from '../../shared/base/clock.js';
import type { EndedCommand, RunningCommand } from '../fixtures/commands/command.js';

/** Ends that no fault explains. */
export type Findings = string[];

export interface Victim {
  readonly name: string;
  /** The process at present. */
  pid(): number;
  signal(signal: NodeJS.Signals): void;
  /** Ends it for good. */
  stop(): Promise<void>;
}

const RESTART_DELAY_MS = 300;
const LAST_WORDS_LENGTH_MAX = 1_500;

export function describeEnd(name: string, { exitCode, signal, diagnostics }: EndedCommand): string {
  const how = signal ?? `exit code ${exitCode}`;
  return `${name} ended with ${how}: ${diagnostics.slice(-LAST_WORDS_LENGTH_MAX)}`;
}

interface VictimTerms {
  readonly name: string;
  readonly start: () => RunningCommand;
  /** Returns what is wrong with an end; null if nothing is. */
  readonly judge: (ended: EndedCommand, wasStruck: boolean) => string | null;
}

/** Keeps a command running until it is stopped. */
export function keptRunning({ name, start, judge }: VictimTerms, findings: Findings): Victim {
  const stopping = new AbortController();
  const isStopping = (): boolean => stopping.signal.aborted;
  let run = start();
  let wasStruck = false;
  const life = (async () => {
    for (;;) {
      const ended = await run.ended;
      const wrong = judge(ended, wasStruck);
      if (wrong !== null) findings.push(wrong);
      if (isStopping()) return;
      await systemClock.sleep(RESTART_DELAY_MS, stopping.signal);
      wasStruck = false;
      run = start();
      if (isStopping()) run.signal('SIGTERM');
    }
  })();
  return {
    name,
    pid: () => run.pid,
    signal: (signal) => {
      if (signal === 'SIGKILL' || signal === 'SIGTERM') wasStruck = true;
      run.signal(signal);
    },
    stop: async () => {
      stopping.abort();
      wasStruck = true;
      run.signal('SIGTERM');
      await life;
    },
  };
}

interface TrialCounts {
  completed: number;
  resumed: number;
}

interface TrialTerms {
  readonly config: string;
  readonly redisUrl: string;
  /** The digest of the run without faults. */
  readonly digest: string;
  readonly start: (...args: string[]) => RunningCommand;
}

/** The exit code of a run that was asked to stop. */
const INTERRUPTED = 4;
const OUTAGE = 3;
/**
 * A full disk ends a run; a command that finds no Redis at its start, or whose compute process is killed
 * while it starts, ends at once.
 */
const OUTAGES =
  /the disk is full|Redis does not answer|ended during the start of the compute process/;

export function isOutage({ exitCode, diagnostics }: EndedCommand): boolean {
  return exitCode === OUTAGE && OUTAGES.test(diagnostics);
}

/** Trains one run over and over, and resumes it where a fault has ended it. */
export function trials(
  { config, redisUrl, digest, start }: TrialTerms,
  counts: TrialCounts,
  findings: Findings,
): Victim {
  const name = 'the struck coordinator';
  let isUnderWay = false;
  return keptRunning(
    {
      name,
      start: () => {
        const how = isUnderWay ? '--resume' : '--fresh';
        if (isUnderWay) counts.resumed += 1;
        isUnderWay = true;
        return start('train', config, '--redis', redisUrl, '--format', 'json', how);
      },
      judge: (ended, wasStruck) => {
        const { exitCode, output } = ended;
        if (exitCode === 0) {
          isUnderWay = false;
          counts.completed += 1;
          return output.includes(digest) ? null : `another digest than ${digest}: ${output}`;
        }
        const isExpected = wasStruck || exitCode === INTERRUPTED || isOutage(ended);
        return isExpected ? null : describeEnd(name, ended);
      },
    },
    findings,
  );
}
