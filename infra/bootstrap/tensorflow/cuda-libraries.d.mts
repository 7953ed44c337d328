/** Types of cuda-libraries.mjs, for tests and TypeScript code; the meaning is documented there. */
export const CUDA_MEGABYTES: number;
export function areCudaLibrariesCached(): boolean;
export function obtainCudaLibraries(announce: (what: string) => void): Promise<void>;
export function linkCudaLibraries(nvidiaFolder: string): void;
export function resolveCudaLibraries(
  nvidiaFolder: string,
  isThere?: (path: string) => boolean,
): { soname: string; path: string | null }[];
export function findNvidiaDriver(): string | null;
