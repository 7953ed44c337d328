/** The bounds of a synthetic world's options. */

import { QianmoError } from '../../shared/base/errors.js';
import { ROW_COUNT_MAX } from './row-count.js';
import type { WorldOptions } from './synthesis.js';
import { worldSize } from './synthetic-world.js';

const ADGROUP_COUNT_MAX = 10_000_000;
/** User ids are written with at most seven digits. */
const USER_COUNT_MAX = 10_000_000;

/** @throws QianmoError of kind `usage` at the first option out of its bounds */
export function checkWorldOptions(options: WorldOptions): void {
  const { adgroupCount, userCount } = worldSize(options);
  checkWhole('rows', options.rows, 1, ROW_COUNT_MAX);
  checkWhole('seed', options.seed, 0, Number.MAX_SAFE_INTEGER);
  checkWhole('number of adgroups', adgroupCount, 1, ADGROUP_COUNT_MAX);
  checkWhole('number of users', userCount, 1, USER_COUNT_MAX);
  if (!(options.meanClickRate >= 0.0001 && options.meanClickRate <= 0.9999))
    throw outOfBounds('mean click rate', 'a number from 0.0001 to 0.9999', options.meanClickRate);
}

function checkWhole(name: string, value: number, min: number, max: number): void {
  if (!Number.isSafeInteger(value) || value < min || value > max)
    throw outOfBounds(name, `a whole number from ${min} to ${max}`, value);
}

function outOfBounds(name: string, expected: string, found: number): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: `the ${name} of the synthetic world is out of bounds`,
    expected,
    found: String(found),
    cure: '`qianmo synthesize --help` lists the options',
  });
}
