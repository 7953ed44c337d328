/** The options that several verbs share, each written once. */

import { z } from 'zod';
import { LOCAL_WORKERS_MAX, QUEUE_PREFIX_DEFAULT } from '../../../coordinator/runs/requests.js';
import { DeviceDemandSchema } from '../../../shared/config/compute-config.js';
import { choiceOption, integerValue, textValue, valueOption } from './verb.js';

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

/** Selects what computes the jobs of a run. */
export const dispatchOptions = {
  processes: valueOption(
    '--processes <count>',
    'compute in this many processes here, without a queue; as many as pay off by default',
    integerValue(1, LOCAL_WORKERS_MAX).optional(),
  ),
  redis: valueOption(
    '--redis <url>',
    'send jobs to the workers of a queue on this Redis server, or on one started for it (embedded), instead of computing here',
    textValue.optional(),
    { variable: 'QIANMO_REDIS_URL' },
  ),
  workers: valueOption(
    '--workers <count>',
    'to try the queue: start this many workers here, on a Redis server of their own unless one is named',
    integerValue(1, LOCAL_WORKERS_MAX).optional(),
    { conflictsWith: 'processes' },
  ),
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
