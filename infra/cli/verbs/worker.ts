/** `qianmo worker`: computes jobs of any run until it is stopped. */

import { z } from 'zod';
import { boundedRate } from '../../../shared/events/bounded-rate.js';
import { QUEUE_PREFIX_DEFAULT } from '../../../coordinator/runs/requests.js';
import { encodeEvent } from '../../../shared/events/event-lines.js';
import { work } from '../../library/index.js';
import { GPU_INDEX_MAX } from '../../../shared/config/compute-config.js';
import { device, redisOfQueue } from '../command/shared-options.js';
import { choiceOption, integerValue, textValue, valueOption, verb } from '../command/verb.js';
import { metricsOptions, watchedOptionsOf } from '../command/watching-options.js';

export const workerVerb = verb({
  name: 'worker',
  description: 'compute jobs of any run from the queue until stopped',
  options: {
    redis: redisOfQueue,
    prefix: valueOption(
      '--prefix <prefixes>',
      'the queue prefix of the config; several share the worker by weights: {a}=3,{b}=1',
      textValue,
      { defaultText: QUEUE_PREFIX_DEFAULT },
    ),
    name: valueOption(
      '--name <name>',
      'the name that results carry; host and process by default',
      textValue.optional(),
    ),
    device,
    gpuIndex: valueOption(
      '--gpu-index <index>',
      'the one GPU to use, counted from 0 as nvidia-smi does',
      integerValue(0, GPU_INDEX_MAX).optional(),
    ),
    storeAllow: valueOption(
      '--store-allow <addresses>',
      'folders and s3://BUCKET/PREFIX in which stores of jobs may lie, separated by commas; the working folder by default',
      textValue.optional(),
      { variable: 'QIANMO_STORE_ALLOW' },
    ),
    endpointAllow: valueOption(
      '--endpoint-allow <urls>',
      'S3 endpoints that jobs may name, separated by commas, beside those of the AWS variables',
      textValue.optional(),
      { variable: 'QIANMO_ENDPOINT_ALLOW' },
    ),
    log: valueOption(
      '--log <file>',
      'file that keeps the events, one JSON object per line; one file for each worker',
      textValue.optional(),
    ),
    ...metricsOptions,
    format: choiceOption(
      '--format <format>',
      'text: events as sentences on standard error; json: one event per line on standard output',
      z.enum(['text', 'json']),
      'text',
    ),
  },
  takesPlugins: true,
  help: `
Examples:
  qianmo worker --redis redis://10.0.0.5:6379 --log worker.ndjson
  qianmo worker --redis redis://10.0.0.5:6379 --prefix '{nightly}=1,{urgent}=3'
  qianmo worker --redis redis://10.0.0.5:6379 --store-allow s3://clicks/stores,/data/stores`,
  run: async (_operands, request, context) => {
    // A signal may arrive before the verb begins.
    if (context.signal.aborted) return;
    const { format, metricsPort, metricsHost, ...order } = request;
    const asLines = boundedRate(context.clock, (event) => context.print(encodeEvent(event)));
    const options = watchedOptionsOf(context, { metricsPort, metricsHost });
    await work(order, format === 'json' ? { ...options, onEvent: asLines } : options);
  },
});
