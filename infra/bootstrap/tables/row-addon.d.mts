/** Types of row-addon.mjs, for tests and other modules; the meaning is documented there. */
import type { NativeAddon } from '../packages/native-addon.mjs';

export declare const rowAddon: NativeAddon;
