/** The options that several verbs share, each written once. */

import { z } from 'zod';
import { LOCAL_WORKERS_MAX, QUEUE_PREFIX_DEFAULT } from '../../../coordinator/runs/requests.js';
import { DeviceDemandSchema } from '../../../shared/config/compute-config.js';
import { choiceOption, flagOption, integerValue, textValue, valueOption } from './verb.js';

export const runConfigArgument = { name: '<run.yaml>', description: 'the run config' } as const;

export const format = choiceOption(
  '--format <format>',
  'how results are printed',
  z.enum(['table', 'json']),
  'table',
);

export const redisOfConfig = valueOption(
  '--redis <url>',
  'the Redis server, instead of the one in the config',
  textValue.optional(),
  { variable: 'QIANMO_REDIS_URL' },
);

/** Selects the processes that compute the jobs of a run. */
export const dispatchOptions = {
  workers: valueOption(
    '--workers <count>',
    'start and supervise this many local workers; with --in-process, child processes',
    integerValue(1, LOCAL_WORKERS_MAX).optional(),
  ),
  inProcess: flagOption(
    '--in-process',
    'compute in child processes, one by default, without a queue',
  ),
  redis: redisOfConfig,
};

export const redisOfQueue = valueOption(
  '--redis <url>',
  'the Redis server of the queue',
  textValue,
  { isRequired: true, variable: 'QIANMO_REDIS_URL' },
);

export const prefix = valueOption(
  '--prefix <prefix>',
  'the queue prefix of the config',
  textValue,
  {
    defaultText: QUEUE_PREFIX_DEFAULT,
  },
);

export const device = choiceOption(
  '--device <device>',
  'device to compute on: gpu or cpu; auto takes a GPU if there is one',
  DeviceDemandSchema,
  'auto',
);
