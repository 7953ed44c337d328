/** Types of native-addon.mjs, for TypeScript code; the meaning is documented there. */
import type { Announce, StepOutcome } from '../base/progress.mjs';

export interface AddonRecipe {
  name: string;
  folder: string;
  headers: string[];
  sources: { name: string; processor: string; flags?: string[] }[];
  flags: string[];
  seconds: number;
  withoutIt: string;
}

export interface NativeAddon {
  path(): string;
  isSettled(): boolean;
  install(announce: Announce, options: { retry: boolean }): Promise<StepOutcome>;
}

export function nativeAddon(recipe: AddonRecipe): NativeAddon;
