/** Types of commands.mjs, for tests; the meaning is documented there. */
export function findOnPath(name: string): string | undefined;

export interface CommandOptions {
  cwd?: string;
  environment?: Record<string, string | undefined>;
  timeoutMs?: number;
}

export function runCommand(
  command: string,
  args: string[],
  options?: CommandOptions,
): Promise<{ ok: boolean; output: string; problem: string }>;

export function lastTellingLine(output: string): string | undefined;
