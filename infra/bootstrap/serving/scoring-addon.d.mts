/** Types of scoring-addon.mjs, for tests and other modules; the meaning is documented there. */
import type { NativeAddon } from '../packages/native-addon.mjs';

export declare const scoringAddon: NativeAddon;
