/** `POST /v1/adapt`: labelled rows of an adgroup -> its block, which is served at once. */

import { z } from 'zod';
import { QianmoError } from '../../../../shared/base/errors.js';
import { JSON_TYPE, jsonAnswer, type Endpoint } from '../endpoint.js';
import { adgroupKeySchema, valuesByColumn } from '../ranking-body.js';
import type { LiveAdapter } from '../live-adapter.js';
import { jsonOf, parseWith, refusalOf } from '../refused-request.js';

const ROWS_MAX = 5_000;
const IMPRESSIONS_MAX = 1e9;
const LABEL_MAX = 1e12;

const AdaptBodySchema = z.strictObject({
  adgroup: adgroupKeySchema,
  segment: z.string().min(1).max(1_000).nullable().default(null),
  rows: z
    .array(
      z.strictObject({
        features: valuesByColumn,
        /** Clicks over impressions, or the value. */
        label: z.number().min(-LABEL_MAX).max(LABEL_MAX),
        impressions: z.number().positive().max(IMPRESSIONS_MAX).default(1),
      }),
    )
    .max(ROWS_MAX),
});

export function adaptEndpoint(adapter: LiveAdapter): Endpoint {
  return {
    method: 'POST',
    path: '/v1/adapt',
    mediaTypes: [JSON_TYPE],
    isWrite: true,
    answer: async ({ bundle, body, deadlineAtMs }) => {
      const { adgroup: key, ...sent } = parseWith(AdaptBodySchema, jsonOf(body));
      const known = adapter.catalog.lineOf(key);
      const segment = sent.segment ?? known?.segment ?? null;
      const rows = sent.rows.map(({ features, ...row }) => ({
        ...{ ...row, features: { ...known?.attributes, ...features } },
      }));
      const notes = await storedOrRefused('the rows are', () =>
        adapter.adapt(bundle, { key, segment, rows }, deadlineAtMs),
      );
      if (notes === null) return jsonAnswer({ bundle: bundle.digest, live: false });
      const { supportRows, clicks, impressions } = notes;
      const evidence = { supportRows, clicks, impressions };
      return jsonAnswer({
        ...{ bundle: bundle.digest, live: true, adapted: supportRows > 0, evidence },
        segment: bundle.loaded.manifest.labels[notes.label]?.segment ?? null,
      });
    },
  };
}

/** @throws RefusedRequest if what is written is not known to be stored. */
export async function storedOrRefused<Result>(
  what: string,
  write: () => Promise<Result>,
): Promise<Result> {
  try {
    return await write();
  } catch (error) {
    if (!(error instanceof QianmoError)) throw error;
    throw refusalOf('not-durable', `${what} not known to be stored`, {
      ...{ found: error.report.what, cure: 'send it again' },
    });
  }
}
