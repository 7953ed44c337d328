/** `GET /v1/exploration/{adgroup}`: what the evidence of the server says of one adgroup. */

import { QianmoError } from '../../../../shared/base/errors.js';
import { at } from '../../../../shared/base/arrays.js';
import { ServedAdgroupSchema } from '../../../../shared/exploration/served-adgroup.js';
import { NAME_LENGTH_MAX } from '../../../../shared/exploration/decision-record.js';
import type { EvidenceStore } from '../../evidence/evidence-store.js';
import { jsonAnswer, type Endpoint } from '../endpoint.js';
import { exampleKeys } from '../forms/example-requests.js';
import { KEY_SEPARATOR } from '../ranking-body.js';
import { RefusedRequest } from '../refused-request.js';

export function servedAdgroupEndpoint(
  evidence: Pick<EvidenceStore, 'evidenceOf' | 'servedOf'>,
): Endpoint {
  return {
    method: 'GET',
    path: '/v1/exploration/{adgroup}',
    description: {
      summary: 'the evidence of one adgroup, and its share of what was served and explored',
      answer: { name: 'ServedAdgroup', schema: ServedAdgroupSchema },
      parameters: { adgroup: (bundle) => [exampleKeys(bundle)[0]].flat().join(KEY_SEPARATOR) },
    },
    answer: async ({ parameters }) => {
      const { adgroup = '' } = parameters;
      if (adgroup.length > NAME_LENGTH_MAX) throw tooLong(adgroup);
      try {
        const found = await evidence.evidenceOf([adgroup]);
        const { impressions, rewards, open, firstMs } = at(found, 0);
        const { own, all } = await evidence.servedOf(adgroup);
        return jsonAnswer({ adgroup, impressions, rewards, open, firstMs, served: own, all });
      } catch (error) {
        if (!(error instanceof QianmoError)) throw error;
        throw new RefusedRequest({
          reason: 'not-durable',
          what: 'the evidence cannot be read',
          found: error.report.what,
          cure: 'ask again later',
        });
      }
    },
  };
}

function tooLong(adgroup: string): RefusedRequest {
  return new RefusedRequest({
    reason: 'wrong-value',
    what: 'no adgroup with evidence has so long a key',
    where: 'the path',
    expected: `at most ${NAME_LENGTH_MAX} characters`,
    found: `${adgroup.length} characters`,
  });
}
