/** The message of a refresh where there is no bundle yet. */

import { expect, it } from 'vitest';
import { refreshableOf } from '../../../coordinator/runs/export-run.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

it.each([
  ['latest', 'a bundle with the label latest'],
  ['canary', 'a bundle with the label canary or latest'],
])('names each label once: %s', async (label, expected) => {
  const folder = await temporaryFolder();
  const place = { out: folder.path, label };
  await expect(refreshableOf(logisticConfig({}), place)).rejects.toMatchObject({
    kind: 'usage',
    report: { what: 'there is no bundle that could be changed', expected },
  });
  await folder.remove();
});
