/** Other programs: run to their end, or started, watched and asked to stop. */

import { spawn } from 'node:child_process';
import { runCommand } from '../../infra/bootstrap/base.mjs';
import { WrittenText } from '../fixtures/commands/command.js';

const TIMEOUT_MS = 60 * 60_000;

/** @throws Error with the last telling line of a program that fails */
export async function run(program: string, ...args: string[]): Promise<string> {
  const { ok, output, problem } = await runCommand(program, args, { timeoutMs: TIMEOUT_MS });
  if (!ok) throw new Error(`${program} ${args[0] ?? ''}: ${problem}`);
  return output.trim();
}

export interface EndedProgram {
  readonly exitCode: number | null;
  /** Standard output and standard error. */
  readonly output: string;
}

export interface RunningProgram {
  readonly ended: Promise<EndedProgram>;
  /** Resolves with the match when the output contains it; rejects when the program ends first. */
  readonly saw: (pattern: RegExp) => Promise<RegExpExecArray>;
  readonly signal: (name: NodeJS.Signals) => void;
}

interface Surroundings {
  readonly folder?: string;
  /** In addition to that of this process. */
  readonly environment?: Readonly<Record<string, string>>;
}

export function startProgram(
  program: string,
  args: readonly string[],
  { folder = '.', environment = {} }: Surroundings = {},
): RunningProgram {
  const child = spawn(program, args, {
    cwd: folder,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = new WrittenText();
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => output.write(text));
  const ended = new Promise<EndedProgram>((resolve) => {
    child.once('close', (exitCode) => {
      output.end();
      resolve({ exitCode, output: output.text });
    });
  });
  return {
    ended,
    saw: (pattern) => output.saw(pattern),
    signal: (name) => void child.kill(name),
  };
}

/** @throws Error that shows the end of the output of a program that ended otherwise */
export function endedWith({ exitCode, output }: EndedProgram, expected: number): string {
  if (exitCode !== expected)
    throw new Error(`exit code ${exitCode ?? 'none'}, not ${expected}: ${output.slice(-800)}`);
  return output;
}

export function digestIn(output: string): string {
  const digest = /digest ([0-9a-f]+)/.exec(output)?.[1];
  if (digest === undefined) throw new Error(`no digest in: ${output.slice(-400)}`);
  return digest;
}
