/** `/v1/adgroups`: what the server knows of adgroups, by which requests that name them alone are ranked. */

import { z } from 'zod';
import { QianmoError } from '../../../../shared/base/errors.js';
import type { LoadedBundle } from '../../../../shared/bundle/read-bundle.js';
import { ADGROUP_STATES } from '../catalog.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import type { LiveAdapter } from '../live-adapter.js';
import { adgroupKeySchema, valuesByColumn } from '../ranking-body.js';
import { jsonOf, parseWith, RefusedRequest, refusedValue, refusalOf } from '../refused-request.js';
import { storedOrRefused } from './adapt.js';

const AdgroupBodySchema = z.strictObject({
  adgroup: adgroupKeySchema,
  state: z.enum(ADGROUP_STATES).default('active'),
  segment: z.string().min(1).max(1_000).nullable().default(null),
  /** By column; absent, the adgroup keeps those that it has. */
  attributes: valuesByColumn.nullable().default(null),
});

export function adgroupEndpoints(adapter: LiveAdapter): readonly Endpoint[] {
  const change: Endpoint = {
    method: 'POST',
    path: '/v1/adgroups',
    mediaTypes: [JSON_TYPE],
    isWrite: true,
    answer: async ({ bundle, body }) => {
      const line = parseWith(AdgroupBodySchema, jsonOf(body));
      requireReadable(bundle.loaded, line);
      await storedOrRefused('the adgroup is', () => adapter.describe(line));
      return jsonAnswer({ adgroup: line.adgroup, state: line.state });
    },
  };
  const show: Endpoint = {
    method: 'GET',
    path: '/v1/adgroups/{adgroup}',
    answer: ({ parameter: found }) => {
      const line = adapter.catalog.lineOf(found);
      if (line !== null) return jsonAnswer(line);
      const what = 'the catalog has no such adgroup';
      throw new RefusedRequest({ reason: 'no-such-path', what, found });
    },
  };
  return [change, show];
}

/** @throws RefusedRequest if the bundle that is served has no such segment, or cannot encode a value. */
function requireReadable(
  { manifest, encoder }: LoadedBundle,
  { segment, attributes }: z.output<typeof AdgroupBodySchema>,
): void {
  if (segment !== null && !manifest.labels.some((label) => label.segment === segment))
    throw refusalOf('wrong-value', 'the bundle has no such segment', {
      where: 'segment',
      expected: `one of ${manifest.labels.map((label) => label.segment ?? 'none').join(', ')}`,
      found: segment,
    });
  for (const { column, pick, encode, kind, placeCount } of encoder.features) {
    if (attributes === null || column === null || !Object.hasOwn(attributes, column)) continue;
    const target = kind === 'number' ? new Float32Array(1) : new Int32Array(placeCount);
    try {
      encode(pick(attributes, attributes), target, 0);
    } catch (error) {
      throw error instanceof QianmoError ? refusedValue(error, `attributes.${column}`) : error;
    }
  }
}
