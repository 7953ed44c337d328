/** The options of a bench that loads ranking servers: how many rounds, how large a bundle, how long, and where results go. */

import { parseArgs } from 'node:util';
import { z } from 'zod';
import { packageRoot } from '../../../../infra/library/package-root.js';

interface LoadOptions {
  readonly rounds: number;
  readonly adgroupCount: number;
  readonly seconds: number;
  /** The folder that the record and its page are written to. */
  readonly output: string;
}

/** @param secondsOtherwise the length of a load where the command does not say it. */
export function loadOptions(secondsOtherwise: number): LoadOptions {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      adgroups: { type: 'string', default: '1000000' },
      seconds: { type: 'string', default: String(secondsOtherwise) },
      output: { type: 'string', default: new URL('infra/results/', packageRoot).pathname },
    },
  });
  return {
    rounds: z.coerce.number().int().positive().max(100).parse(values.rounds),
    adgroupCount: z.coerce.number().int().min(1000).max(4_000_000).parse(values.adgroups),
    seconds: z.coerce.number().positive().max(600).parse(values.seconds),
    output: values.output,
  };
}
