/** Types of native-tensorflow.mjs, for tests and other modules; the meaning is documented there. */
import type { Announce, StepOutcome } from '../base/progress.mjs';

export const nvidiaFolder: string;
export function isNativeTensorFlowSettled(): boolean;
export function isGpuTensorFlowInstalled(): boolean;
export function whyNoNativeTensorFlow(): string;
export function installNativeTensorFlow(
  announce: Announce,
  options: { retry: boolean },
): Promise<StepOutcome>;
export function installGpuTensorFlow(announce: Announce): Promise<StepOutcome>;
