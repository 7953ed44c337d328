/** The place from which a config's state is told: its own record, or that of its search. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { statusOfRun } from '../../../coordinator/runs/record-calls.js';
import { smallRun } from '../../fixtures/commands/small-run.js';
import { runContext } from '../../fixtures/run-context.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { writeRecord } from '../../fixtures/written-record.js';

test('a config without the section auto tells of its search while that goes on', async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => folder.remove());
  const output = join(folder.path, 'data');
  const config = join(folder.path, 'data.yaml');
  await writeFile(config, JSON.stringify({ ...smallRun('data', 2), output }));
  await writeRecord(output, { run: 'data', outerSteps: 1, call: 'prepare' });
  expect((await statusOfRun({ run: config }, runContext())).call?.name).toBe('prepare');
  await writeRecord(join(output, 'auto'), { run: 'data', outerSteps: 5, call: 'auto' });
  expect((await statusOfRun({ run: config }, runContext())).call?.name).toBe('auto');
});
