/** Types of loopback.mjs, for tests; the meaning is documented there. */

export function findFreePort(): Promise<number>;
export function askOnce(
  port: number,
  request: string,
  isEnough?: (answer: string) => boolean,
): Promise<string>;
export function waitUntilReady(
  server: { isRunning: () => boolean; ended: Promise<string> },
  isReady: () => Promise<boolean>,
  timeoutMs: number,
): Promise<string>;
