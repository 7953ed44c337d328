/** A side's long-lived process as the runner sees it: one command at a time, each with a deadline. */

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { createInterface } from 'node:readline';
import { systemClock } from '../../../../shared/base/clock.js';
import {
  SideReplySchema,
  type Checked,
  type Ready,
  type SideCommand,
  type SideReply,
  type Timed,
} from './side-protocol.js';

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The core the process is pinned to; null lets it use all. */
  readonly core: number | null;
}

export interface SideProcess {
  readonly pid: number;
  readonly ready: Ready;
  readonly check: (folder: string, timeoutMs: number) => Promise<Checked>;
  readonly run: (durationMs: number) => Promise<Timed>;
  readonly end: () => Promise<void>;
}

const START_TIMEOUT_MS = 120_000;
const RUN_TIMEOUT_BEYOND_MS = 120_000;
const END_TIMEOUT_MS = 5_000;
const STDERR_CHARACTERS_MAX = 2_000;

/** @throws Error that says how the process failed. */
export async function startSide(launch: Launch): Promise<SideProcess> {
  const child = spawned(launch);
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-STDERR_CHARACTERS_MAX);
  });
  // A broken pipe appears as the end of the process.
  child.stdin.on('error', () => undefined);
  const waiting: { settle: (reply: SideReply) => void; refuse: (error: Error) => void }[] = [];
  const exited = new Promise<void>((resolve) => {
    const finish = (how: string): void => {
      const last = stderr.trim().split('\n').at(-1) ?? '';
      for (const { refuse } of waiting.splice(0)) refuse(new Error(`${how}: ${last}`));
      resolve();
    };
    child.once('error', (error) => finish(error.message));
    child.once('exit', (code, signal) => finish(`ended by ${signal ?? `code ${String(code)}`}`));
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.startsWith('{')) return;
    waiting.shift()?.settle(SideReplySchema.parse(JSON.parse(line)));
  });

  const answer = async (timeoutMs: number): Promise<SideReply> => {
    const timer = new AbortController();
    void systemClock.sleep(timeoutMs, timer.signal).then(() => {
      if (timer.signal.aborted) return;
      for (const { refuse } of waiting.splice(0))
        refuse(new Error(`not finished after ${timeoutMs / 1000} s`));
      child.kill('SIGKILL');
    });
    try {
      const reply = await new Promise<SideReply>((settle, refuse) => {
        if (child.exitCode !== null || child.signalCode !== null)
          refuse(new Error('the process has ended'));
        else waiting.push({ settle, refuse });
      });
      if (reply.kind === 'failed') throw new Error(reply.message);
      return reply;
    } finally {
      timer.abort();
    }
  };
  const ask = (command: SideCommand, timeoutMs: number): Promise<SideReply> => {
    child.stdin.write(`${JSON.stringify(command)}\n`);
    return answer(timeoutMs);
  };

  const ready = await answer(START_TIMEOUT_MS);
  if (ready.kind !== 'ready') throw new Error(`started with ${ready.kind}`);
  return {
    pid: child.pid ?? 0,
    ready,
    check: async (folder, timeoutMs) => {
      const reply = await ask({ kind: 'check', folder }, timeoutMs);
      if (reply.kind !== 'checked') throw new Error(`unexpected reply to a check: ${reply.kind}`);
      return reply;
    },
    run: async (durationMs) => {
      const reply = await ask({ kind: 'run', durationMs }, durationMs + RUN_TIMEOUT_BEYOND_MS);
      if (reply.kind !== 'timed') throw new Error(`unexpected reply to a run: ${reply.kind}`);
      return reply;
    },
    end: async () => {
      child.stdin.end(`${JSON.stringify({ kind: 'end' } satisfies SideCommand)}\n`);
      const timer = new AbortController();
      void systemClock.sleep(END_TIMEOUT_MS, timer.signal).then(() => {
        if (!timer.signal.aborted) child.kill('SIGKILL');
      });
      await exited;
      timer.abort();
    },
  };
}

function spawned({ command, args, environment, core }: Launch): ChildProcessWithoutNullStreams {
  const [program, programArgs] =
    core === null ? [command, args] : ['taskset', ['-c', String(core), command, ...args]];
  const child = spawn(program, programArgs, { env: environment, stdio: 'pipe' });
  alive.add(child);
  child.once('exit', () => alive.delete(child));
  return child;
}

const alive = new Set<ChildProcessWithoutNullStreams>();
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});
