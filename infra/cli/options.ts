/** Parsers of option values and the options several verbs share. */

import { InvalidArgumentError, Option } from 'commander';

export function integerBetween(smallest: number, largest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < smallest || value > largest)
      throw new InvalidArgumentError(`expected a whole number from ${smallest} to ${largest}.`);
    return value;
  };
}

export const formatOption = (): Option =>
  new Option('--format <format>', 'how results are printed')
    .choices(['table', 'json'])
    .default('table');

export const workersOption = (): Option =>
  new Option('--workers <count>', 'start and supervise this many local workers').argParser(
    integerBetween(1, 256),
  );

export const inProcessOption = (): Option =>
  new Option('--in-process', 'no queue and no workers: compute beside the coordinator').conflicts(
    'workers',
  );

export const redisOption = (): Option =>
  new Option('--redis <url>', 'the Redis server, instead of the one in the config').env(
    'QIANMO_REDIS_URL',
  );

export const deviceOption = (): Option =>
  new Option('--device <device>', 'what must compute: gpu or cpu; auto takes what is there')
    .choices(['auto', 'cpu', 'gpu'])
    .default('auto');

export const gpuIndexOption = (): Option =>
  new Option(
    '--gpu-index <index>',
    'the one GPU to use, counted from 0 as nvidia-smi does',
  ).argParser(integerBetween(0, 1023));
