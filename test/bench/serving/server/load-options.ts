/** The options of a bench that loads ranking servers: how many rounds, how large a bundle, how long, and where results go. */

import { z } from 'zod';
import { packageRoot } from '../../../../infra/library/package-root.js';
import { benchOptions } from '../../options/bench-options.js';

interface LoadOptions {
  readonly rounds: number;
  readonly adgroupCount: number;
  readonly seconds: number;
  /** The folder that the record and its page are written to. */
  readonly output: string;
}

/**
 * @param url that of the command's own module.
 * @param secondsOtherwise the length of a load where the command does not say it.
 */
export function loadOptions(url: string, secondsOtherwise: number): LoadOptions {
  const values = benchOptions(url, {
    rounds: { type: 'string', default: '3', about: 'how often everything is measured, in turns' },
    adgroups: { type: 'string', default: '1000000', about: 'adgroups of the bundle' },
    seconds: { type: 'string', default: String(secondsOtherwise), about: 'seconds of each load' },
    output: {
      type: 'string',
      default: new URL('infra/results/', packageRoot).pathname,
      about: 'folder of the record and its page',
    },
  });
  return {
    rounds: z.coerce.number().int().positive().max(100).parse(values.rounds),
    adgroupCount: z.coerce.number().int().min(1000).max(4_000_000).parse(values.adgroups),
    seconds: z.coerce.number().positive().max(600).parse(values.seconds),
    output: values.output,
  };
}
