/** Refuses to compute on another device than the requested one, and says why it is not used. */

import type { DeviceDemand } from '../../../shared/config/compute-config.js';
import { QianmoError } from '../../../shared/base/errors.js';
import {
  formatDeviceLine,
  gpuText,
  type DeviceReport,
} from '../../../shared/events/device-report.js';
import type { CudaFindings } from './cuda-libraries.js';

/**
 * @param findings called only if the request is not met, since it opens libraries.
 * @throws QianmoError of kind `environment` if another device computes than the requested one.
 */
export function requireDevice(
  demand: DeviceDemand,
  report: DeviceReport,
  findings: () => CudaFindings,
): void {
  if (demand === 'auto' || demand === report.device) return;
  if (demand === 'cpu')
    throw new QianmoError({
      kind: 'environment',
      what: 'the CPU is demanded, yet TensorFlow computes on a GPU',
      expected: 'the CPU (device: cpu)',
      found: formatDeviceLine(report),
      cure: 'start the worker with --device cpu, or demand device auto',
      isOfThisMachine: true,
    });
  const { hasDriver, missing } = findings();
  const found = [report.backend];
  found.push(report.gpu === null ? 'no GPU that this process may see' : gpuText(report));
  if (!hasDriver) found.push('the driver (libcuda.so.1) does not load');
  if (missing.length > 0) found.push(`CUDA libraries that do not load: ${missing.join(', ')}`);
  throw new QianmoError({
    kind: 'environment',
    what: 'a GPU is demanded, yet TensorFlow computes on the CPU',
    expected: 'a GPU (device: gpu)',
    found: found.join('; '),
    cure: cureOf(report, hasDriver, missing),
    isOfThisMachine: true,
  });
}

function cureOf(report: DeviceReport, hasDriver: boolean, missing: readonly string[]): string {
  if (!report.isNative || missing.length > 0)
    return 'qianmo setup --gpu installs TensorFlow with CUDA 12; or demand device auto';
  if (!hasDriver) return 'install the NVIDIA driver (525 or later), or demand device auto';
  if (report.gpu === null)
    return 'give the process a GPU (CUDA_VISIBLE_DEVICES, --gpu-index), or demand device auto';
  return 'qianmo setup --gpu, should the installed TensorFlow be the one without CUDA; TF_CPP_MAX_VLOG_LEVEL=1 makes TensorFlow say why';
}
