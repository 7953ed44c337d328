/** Starts a compute process that ends when the context closes. */

import { isInterruption } from '../../shared/base/errors.js';
import type { DeviceDemand } from '../../shared/config/compute-config.js';
import {
  createComputeProcess,
  type ComputeExecutor,
} from '../../worker/process/compute-process.js';
import { takeComputeAhead } from './started-ahead.js';
import { computeEnvironment } from '../../worker/compute/device/visible-gpus.js';
import type { RunContext } from '../../coordinator/runs/call/run-context.js';

interface StartDemand {
  readonly device: DeviceDemand;
  /** Whether the first jobs are portable; each job says so itself. */
  readonly portable?: boolean;
  readonly gpuIndex?: number | undefined;
}

/** @throws QianmoError `environment` if the demanded device is not available. */
export async function startedComputeProcess(
  { device, portable = false, gpuIndex }: StartDemand,
  { clock, sink, environment, signal, onClose }: RunContext,
): Promise<ComputeExecutor> {
  const isDefault = device === 'auto' && !portable && gpuIndex === undefined;
  const forked = takeComputeAhead(isDefault, environment);
  const executor = createComputeProcess({
    ...(forked === null ? {} : { forked }),
    clock,
    device,
    portable,
    environment: computeEnvironment(environment, device, gpuIndex),
    onEvent: sink,
  });
  onClose(() => executor.close());
  await executor.start(signal).catch((error: unknown) => {
    // The reason of the signal says who stopped the work.
    throw signal.aborted && isInterruption(error) ? signal.reason : error;
  });
  return executor;
}
