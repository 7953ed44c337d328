/** The figures of independent programs on the division of the demo, as `npm run bench -- real` recorded them. */

import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { packageRoot } from '../package-root.js';
import type { MeasuredModel } from './searched-model.js';

const RECORD = 'infra/results/real.json';

const RecordSchema = z.looseObject({
  cells: z.looseObject({
    'movielens-demo': z
      .looseObject({
        arms: z.array(
          z.looseObject({
            name: z.string(),
            side: z.enum(['peer', 'product']),
            logloss: z.number(),
            auc: z.number().nullable(),
          }),
        ),
      })
      .optional(),
  }),
});

/** Empty if the division of the demo is not in the record. */
export async function recordedPeers(): Promise<MeasuredModel[]> {
  const text = await readFile(new URL(RECORD, packageRoot), 'utf8');
  const { cells } = RecordSchema.parse(JSON.parse(text));
  return (cells['movielens-demo']?.arms ?? [])
    .filter(({ side }) => side === 'peer')
    .map(({ name, logloss, auc }) => ({ name: `peer: ${name}`, logloss, auc }));
}
