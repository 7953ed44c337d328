/** Checks the requirements of any run on this machine: Node, native TensorFlow and free memory. */

import { availableParallelism, freemem } from 'node:os';
import {
  checked,
  ok,
  checkRun,
  type CheckResult,
  type Finding,
} from '../../coordinator/runs/check-run.js';
import type { Environment, RunContext } from '../../coordinator/runs/run-context.js';
import { systemClock } from '../../shared/base/clock.js';
import type { ComputeConfig } from '../../shared/config/compute-config.js';
import { describeDevice } from '../../worker/process/compute-process.js';
import { formatDeviceLine, type DeviceReport } from '../../shared/events/device-report.js';
import { computeEnvironment } from '../../worker/compute/device/gpus.js';
import { NODE_CURE, SUPPORTED_NODE, isNodeSupported } from '../bootstrap/base.mjs';
import { runConfigOf } from '../../coordinator/runs/config-sources.js';
import type { RequestOf } from '../../coordinator/runs/requests.js';

export interface MachineCheckResult extends CheckResult {
  /** The whole report, in the result of the check that starts a compute process. */
  readonly device?: DeviceReport;
}

/** The section `compute` of a run; of a machine alone, its defaults. */
type MachineDemand = Pick<ComputeConfig, 'device' | 'portable' | 'fingerprint'>;

const MEMORY_FREE_BYTE_COUNT_MIN = 2 * 2 ** 30;

async function checkMachine(
  demand: MachineDemand,
  environment: Environment,
): Promise<MachineCheckResult[]> {
  return Promise.all([
    checked('Node', checkNode),
    checked('native TensorFlow', () => checkTensorFlow(demand, environment)),
    checked('memory', checkMemory),
  ]);
}

function checkNode(): Promise<Finding> {
  const { version } = process;
  const finding: Finding = isNodeSupported()
    ? ok(`${version}, ${availableParallelism()} cores`)
    : { state: 'problem', detail: `${version}; ${SUPPORTED_NODE} is needed`, cure: NODE_CURE };
  return Promise.resolve(finding);
}

async function checkTensorFlow(
  { device: demand, portable, fingerprint }: MachineDemand,
  environment: Environment,
): Promise<Finding & { device: DeviceReport }> {
  const device = await describeDevice({
    clock: systemClock,
    device: demand,
    portable,
    environment: computeEnvironment(environment, demand, undefined),
  });
  const detail = formatDeviceLine(device);
  if (fingerprint !== undefined && fingerprint !== device.fingerprint)
    return {
      state: 'problem',
      detail: `${detail}; the config demands ${fingerprint}, so this machine would refuse its jobs`,
      cure: 'use a machine of that kind, or change compute.fingerprint',
      device,
    };
  if (!device.isNative)
    return {
      state: 'warning',
      detail: `${detail}: jobs run, but many times slower`,
      cure: 'run qianmo setup, which installs it or says why it cannot',
      device,
    };
  if (device.gpu === null || device.device === 'gpu' || demand === 'cpu')
    return { ...ok(detail), device };
  return {
    state: 'warning',
    detail: `${detail}; the GPU (${device.gpu.name}) is not used`,
    cure: 'run qianmo setup --gpu to install TensorFlow with CUDA, then qianmo check --device gpu',
    device,
  };
}

function checkMemory(): Promise<Finding> {
  const freeGiB = freemem() / 2 ** 30;
  if (freemem() >= MEMORY_FREE_BYTE_COUNT_MIN)
    return Promise.resolve(ok(`${freeGiB.toFixed(1)} GiB free`));
  return Promise.resolve({
    state: 'warning',
    detail: `${freeGiB.toFixed(1)} GiB free`,
    cure: 'stop other programs, or lower data.memoryMiBMax and the number of workers',
  });
}

export async function checkRequirements(
  request: RequestOf<'check'>,
  context: RunContext,
): Promise<readonly MachineCheckResult[]> {
  const { environment } = context;
  const config =
    request.config === undefined ? null : await runConfigOf(request.config, environment);
  const compute = config?.compute ?? { device: 'auto', portable: false };
  const device = request.device === 'auto' ? compute.device : request.device;
  const results = await checkMachine({ ...compute, device }, environment);
  if (config === null) return results;
  return [...results, ...(await checkRun(config, request.redis ?? config.queue.redisUrl, context))];
}
