/** Types of project.mjs, for tests and TypeScript code; the meaning is documented there. */
export const projectRoot: string;
export const isCheckout: boolean;
export function cacheRoot(): string;
export function digestOf(content: string | Buffer): string;
export function readIfThere(path: string): string | undefined;
export function writeWhole(path: string, content: string): void;
export function isAlive(pid: number): boolean;
export function publishFolder(
  target: string,
  fill: (folder: string) => Promise<void>,
): Promise<void>;
