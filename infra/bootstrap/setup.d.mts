/** Types of setup.mjs, for TypeScript code; the meaning is documented there. */
export interface SetUpResult {
  typeErrors: string[];
  redisServer: { path: string; version: string } | null;
  s3Server: unknown;
  s3Problem: string;
}
export function checkNodeVersion(): void;
export function isSetUp(): boolean;
export function setUp(options?: {
  forTests?: boolean;
  retry?: boolean;
  gpu?: boolean;
}): Promise<SetUpResult>;
