/** The options by which others watch a verb: an endpoint with its metrics, and its events as lines. */

import { z } from 'zod';
import type { CallOptions } from '../../library/index.js';
import { callOptionsOf, type CommandContext } from './command-context.js';
import { choiceOption, integerValue, textValue, valueOption } from './verb.js';

/** The place of the metrics of a process. */
export const metricsOptions = {
  metricsPort: valueOption(
    '--metrics-port <port>',
    'serve metrics for Prometheus on this port, 0 for any free one',
    integerValue(0, 65_535).optional(),
  ),
  metricsHost: valueOption(
    '--metrics-host <host>',
    'the address that they are served on; without a password, so open it to a trusted network alone',
    textValue,
    { defaultText: '127.0.0.1' },
  ),
};

/** For verbs that show events. */
export const watchingOptions = {
  ...metricsOptions,
  logFormat: choiceOption(
    '--log-format <format>',
    'how events are written to standard error: as sentences, or one JSON object per line',
    z.enum(['text', 'json']),
    'text',
  ),
};

interface Watching {
  readonly metricsPort: number | undefined;
  readonly metricsHost: string;
  readonly logFormat?: 'text' | 'json';
}

/** The options that the command gives to the library, and the events as they were asked for. */
export function watchedOptionsOf(
  context: CommandContext,
  { metricsPort: port, metricsHost: host, logFormat }: Watching,
): CallOptions {
  if (logFormat === 'json') context.showEventsAsLines();
  const options = callOptionsOf(context);
  return port === undefined ? options : { ...options, metrics: { port, host } };
}
