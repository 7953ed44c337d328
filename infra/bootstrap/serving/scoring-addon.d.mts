/** Types of scoring-addon.mjs, for tests and other modules; the meaning is documented there. */
import type { Announce, StepOutcome } from '../base/progress.mjs';

export function scoringAddonPath(): string;
export function isScoringAddonSettled(): boolean;
export function installScoringAddon(
  announce: Announce,
  options: { retry: boolean },
): Promise<StepOutcome>;
