/** Runs `qianmo demo` and reads its digest, its evaluation and the table it prints. */

import { join } from 'node:path';
import { qianmoIn, type CommandPlace } from '../qianmo-command.js';
import { evaluatedValues, sha256 } from './outcomes.js';
import type { CaseValues } from './recorded-digests.js';

export const DEMO = 'demo';

interface DemoOutcome {
  readonly values: CaseValues;
  /** The printed evaluation, without the run time and the paths. */
  readonly table: string[];
}

export async function runDemo(place: CommandPlace): Promise<DemoOutcome> {
  const lines = (await qianmoIn(place, 'demo', '--out', DEMO)).trimEnd().split('\n');
  const digests = lines.flatMap((line) => /^digest ([0-9a-f]{64})$/.exec(line)?.[1] ?? []);
  const first = lines.findIndex((line) => line.startsWith('Evaluation of '));
  const end = lines.findIndex((line) => line.startsWith('4. auto'));
  const [training] = digests;
  if (training === undefined || first < 0 || end < first)
    throw new Error(`the demo printed no digest and table:\n${lines.join('\n')}`);
  const table = lines.slice(first, end);
  return {
    values: {
      training,
      ...evaluatedValues(join(place.folder, DEMO)),
      outcome: sha256(table.join('\n')),
    },
    table,
  };
}
