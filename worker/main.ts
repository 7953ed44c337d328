/**
 * Process entry of a worker: arguments and signals in, `runWorker` over a compute process out. It imports
 * little and forks the compute process first, which loads TensorFlow while the rest is loaded here. A worker that
 * is started before its queue is known gets its arguments as a message of its parent.
 */

import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { formatFailure, QianmoError } from '../shared/base/errors.js';
import { keepCompiledCode } from '../shared/base/compile-cache.js';
import { collectGarbageRarely } from '../shared/base/garbage-collection.js';
import { optimizeSoon } from '../shared/base/late-optimization.js';
import { printableText } from '../shared/base/printable-text.js';
import type { DeviceDemand } from '../shared/config/compute-config.js';
import { numericalEnvironment } from './compute/device/numerical-environment.js';
import { computeEnvironment } from './compute/device/gpus.js';
import { forkedEntry, type ForkedEntry } from './process/forked-entry.js';

collectGarbageRarely();
optimizeSoon();
keepCompiledCode(process.env);

/** The only argument of a worker whose arguments follow. */
const ARGUMENTS_FOLLOW = '--arguments-follow';
const DEVICES: readonly DeviceDemand[] = ['auto', 'cpu', 'gpu'];

type Values = ReturnType<typeof valuesIn>;

async function main(words: readonly string[]): Promise<void> {
  if (!words.includes(ARGUMENTS_FOLLOW)) return work(valuesIn(words));
  const forked = forkedFor(valuesIn([]));
  const [values] = await Promise.all([
    followingWords().then(valuesIn),
    import('./worker-process.js'),
  ]);
  if (isAsUsual(values)) return work(values, forked);
  forked?.process.kill('SIGKILL');
  return work(values);
}

function valuesIn(words: readonly string[]) {
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
      count: { type: 'string', default: '1' },
      'first-count': { type: 'string', default: '1' },
      plugin: { type: 'string', multiple: true, default: [] },
    },
  });
  return values;
}

/** The arguments that the parent sends. It is gone, and so is the reason to live, when the channel closes before. */
function followingWords(): Promise<readonly string[]> {
  return new Promise((resolve) => {
    const onGone = (): void => process.exit(0);
    process.once('disconnect', onGone);
    process.once('message', (message) => {
      process.off('disconnect', onGone);
      resolve(Array.isArray(message) ? message.map(String) : []);
    });
    if (!process.connected) onGone();
  });
}

/** True if a compute process that was forked without arguments is what these demand. */
function isAsUsual({ device, portable, plugin, 'gpu-index': gpuIndex }: Values): boolean {
  return device === 'auto' && !portable && plugin.length === 0 && gpuIndex === undefined;
}

function computeOf({ device: text, portable, 'gpu-index': gpuIndex }: Values) {
  const device = demandOf(text);
  const environment = computeEnvironment(process.env, device, gpuIndexOf(gpuIndex));
  return { device, portable, environment };
}

/** Null where there can be no such process, for the reason that its start will tell. */
function forkedFor(values: Values): ForkedEntry | null {
  const { device, portable, environment } = computeOf(values);
  if (portable && device === 'gpu') return null;
  return forkedEntry({
    environment: numericalEnvironment(environment, portable),
    pluginArguments: values.plugin.flatMap((plugin) => ['--plugin', plugin]),
    backend: 'auto',
  });
}

/** @param ahead a compute process that is as the values demand. */
async function work(values: Values, ahead?: ForkedEntry | null): Promise<void> {
  if (values.redis === '')
    throw usageError(
      'a worker needs the address of Redis',
      'give --redis redis://HOST:PORT, or set QIANMO_REDIS_URL',
    );
  const forked = ahead === undefined ? forkedFor(values) : ahead;
  const { runWorkerProcess } = await import('./worker-process.js');
  await runWorkerProcess({
    ...{ redisUrl: values.redis, prefix: values.prefix, name: values.name },
    count: countOf(values.count, '--count'),
    firstCount: countOf(values['first-count'], '--first-count'),
    ...{ compute: computeOf(values), forked, plugins: values.plugin },
    storesAllowed: values['store-allow'],
    endpointsAllowed: values['endpoint-allow'],
    environment: process.env,
  });
}

function demandOf(text: string): DeviceDemand {
  const device = DEVICES.find((each) => each === text);
  if (device !== undefined) return device;
  throw usageError(`there is no device ${text}`, 'give --device auto, cpu or gpu');
}

function gpuIndexOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text)) return Number(text);
  throw usageError(`${text} is not the index of a GPU`, 'give --gpu-index 0, 1, ...');
}

function countOf(text: string, option: string): number {
  if (/^[1-9]\d{0,2}$/.test(text)) return Number(text);
  throw usageError(`${text} is not a number of workers`, `give ${option} 1 to 999`);
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
