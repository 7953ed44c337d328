/** The options of a bench that loads ranking servers: how many rounds, how large a bundle, how long, and where results go. */

import { packageRoot } from '../../../../infra/library/package-root.js';
import { benchOptions } from '../../options/bench-options.js';
import { amount, text, wholeNumber } from '../../options/option-values.js';

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
    rounds: {
      value: wholeNumber(1, 100),
      default: '3',
      about: 'how often everything is measured, in turns',
    },
    adgroups: {
      value: wholeNumber(1000, 4_000_000),
      default: '1000000',
      about: 'adgroups of the bundle',
    },
    seconds: {
      value: amount(600),
      default: String(secondsOtherwise),
      about: 'seconds of each load',
    },
    output: {
      value: text,
      default: new URL('infra/results/', packageRoot).pathname,
      about: 'folder of the record and its page',
    },
  });
  return {
    rounds: values.rounds,
    adgroupCount: values.adgroups,
    seconds: values.seconds,
    output: values.output,
  };
}
