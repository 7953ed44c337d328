/** Types of native-addon.mjs, for TypeScript code; the meaning is documented there. */
import type { Announce, StepOutcome } from '../base/progress.mjs';

export interface NativeAddon {
  path(): string;
  isSettled(): boolean;
  install(announce: Announce, options: { retry: boolean }): Promise<StepOutcome>;
}
