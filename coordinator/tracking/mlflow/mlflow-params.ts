/** A run config as MLflow's params: one for each field that decides or describes the run. */

import { isRecord } from '../../../shared/base/canonical-json.js';
import { addressWithoutSecret } from '../../../shared/base/redacted-address.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { KeyedValue } from './mlflow-client.js';

/** MLflow refuses longer ones, and more of them in one request. */
const KEY_LENGTH_MAX = 250;
const VALUE_LENGTH_MAX = 6_000;
const PARAM_COUNT_MAX = 100;

/** In the order of the config; a list is one param, as JSON. The trackers themselves are left out. */
export function paramBatchesOf({ tracking: _tracking, ...config }: RunConfig): KeyedValue[][] {
  const redisUrl = addressWithoutSecret(config.queue.redisUrl);
  const params = paramsOf({ ...config, queue: { ...config.queue, redisUrl } }, '');
  const batches: KeyedValue[][] = [];
  for (let first = 0; first < params.length; first += PARAM_COUNT_MAX)
    batches.push(params.slice(first, first + PARAM_COUNT_MAX));
  return batches;
}

function paramsOf(value: unknown, path: string): KeyedValue[] {
  if (value === undefined) return [];
  if (isRecord(value))
    return Object.entries(value).flatMap(([name, field]) =>
      paramsOf(field, path === '' ? name : `${path}.${name}`),
    );
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const key = path.replace(/[^\w. :/-]/g, '_').slice(0, KEY_LENGTH_MAX);
  return [{ key, value: text.slice(0, VALUE_LENGTH_MAX) }];
}
