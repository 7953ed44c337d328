/** Types of progress.mjs, for TypeScript code; the meaning is documented there. */
export interface StepOutcome {
  state: 'ok' | 'warning';
  note: string;
  cure?: string[];
}
export type Announce = (what: string) => void;
export class BootstrapError extends Error {
  constructor(message: string, cure: string[]);
  cure: string[];
}
export function runStep(
  name: string,
  work: (announce: Announce) => Promise<StepOutcome> | StepOutcome,
): Promise<StepOutcome>;
export function say(line: string): void;
export function failWith(error: unknown): never;
