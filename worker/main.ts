/**
 * Process entry of a local worker: arguments and signals in, `runWorkerProcess` over a compute process out. It imports
 * little and forks the compute process first, which loads TensorFlow while the rest is loaded here.
 */

import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { formatFailure, QianmoError } from '../shared/base/errors.js';
import { keepCompiledCode } from '../shared/base/cache-folder.js';
import { collectGarbageRarely } from '../shared/base/garbage-collection.js';
import { printableText } from '../shared/base/printable-text.js';
import type { DeviceDemand } from '../shared/config/compute-config.js';
import { numericalEnvironment } from './compute/device/numerical-environment.js';
import { computeEnvironment } from './compute/device/gpus.js';
import { forkedEntry } from './process/forked-entry.js';

collectGarbageRarely();
keepCompiledCode(process.env);

const DEVICES: readonly DeviceDemand[] = ['auto', 'cpu', 'gpu'];

async function main(words: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...words],
    options: {
      redis: { type: 'string', default: process.env['QIANMO_REDIS_URL'] ?? '' },
      prefix: { type: 'string', default: '{qianmo}' },
      name: { type: 'string', default: `${hostname()}-${process.pid}` },
      device: { type: 'string', default: 'auto' },
      'gpu-index': { type: 'string' },
      'store-allow': { type: 'string', multiple: true, default: [] },
      'endpoint-allow': { type: 'string', multiple: true, default: [] },
      portable: { type: 'boolean', default: false },
      plugin: { type: 'string', multiple: true, default: [] },
      'row-addon': { type: 'string' },
    },
  });
  const { redis: redisUrl, prefix, name, portable, plugin: plugins } = values;
  if (redisUrl === '')
    throw usageError(
      'a worker needs the address of Redis',
      'give --redis redis://HOST:PORT, or set QIANMO_REDIS_URL',
    );
  const device = deviceIn(values.device);
  const environment = computeEnvironment(process.env, device, gpuIndexIn(values['gpu-index']));
  // Portable jobs do not run on a GPU; the start of the executor reports that.
  const forked =
    portable && device === 'gpu'
      ? null
      : forkedEntry({
          environment: numericalEnvironment(environment, portable),
          pluginArguments: plugins.flatMap((plugin) => ['--plugin', plugin]),
          backend: 'auto',
        });
  const { runWorkerProcess } = await import('./worker-process.js');
  await runWorkerProcess({
    ...{ redisUrl, prefix, name, plugins, forked, rowAddon: values['row-addon'] },
    compute: { device, portable, environment },
    storesAllowed: values['store-allow'],
    endpointsAllowed: values['endpoint-allow'],
    environment: process.env,
  });
}

function deviceIn(text: string): DeviceDemand {
  const device = DEVICES.find((each) => each === text);
  if (device !== undefined) return device;
  throw usageError(`there is no device ${text}`, 'give --device auto, cpu or gpu');
}

function gpuIndexIn(text: string | undefined): number | undefined {
  if (text === undefined || /^\d+$/.test(text)) return text === undefined ? text : Number(text);
  throw usageError(`${text} is not the index of a GPU`, 'give --gpu-index 0, 1, ...');
}

function usageError(what: string, cure: string): QianmoError {
  return new QianmoError({ kind: 'usage', what, cure });
}

try {
  await main(process.argv.slice(2));
  process.exit(0);
} catch (error) {
  const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(
    `${error instanceof QianmoError ? formatFailure(error) : printableText(trace)}\n`,
  );
  process.exit(error instanceof QianmoError ? error.exitCode : 1);
}
