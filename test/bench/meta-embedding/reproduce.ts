/**
 * Reproduces Meta-Embedding (Pan et al., SIGIR 2019) on MovieLens 1M, through the job system.
 *
 *   npm run reproduce:meta-embedding -- --settings published,own-default --seeds 0,1,2
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { EXIT_CODE_BY_KIND, formatFailure, QianmoError } from '../../../shared/errors.js';
import { openCommandContext } from '../../../infra/cli/command-context.js';
import { packageRoot } from '../../../infra/cli/package-root.js';
import { benchHeader } from '../bench-header.js';
import { readMovielens } from './movielens-files.js';
import { publishedSplit } from './published-split.js';
import { reproduceSeed } from './one-seed.js';
import { PUBLISHED_TABLE, resultsPage } from './results-table.js';
import { DEEPFM, OWN_DEFAULT, PUBLISHED, predictionConfig } from './setting.js';
import { openTrainingRoom } from './training-room.js';

const SETTINGS = [PUBLISHED, OWN_DEFAULT];
const RESULTS = new URL('infra/results/', packageRoot).pathname;

const { values: options } = parseArgs({
  options: {
    settings: { type: 'string', default: 'own-default,published' },
    seeds: { type: 'string', default: '0,1,2' },
    folder: { type: 'string', default: join(packageRoot.pathname, 'runs/meta-embedding') },
    workers: { type: 'string', default: '2' },
  },
});

const header = benchHeader();
const context = openCommandContext(process.env, process.stdout, process.stderr);
try {
  const movielens = readMovielens();
  const split = publishedSplit(movielens.ratings);
  const settings = options.settings.split(',').map((name) => {
    const setting = SETTINGS.find((known) => known.name === name);
    if (setting !== undefined) return setting;
    throw new QianmoError({
      kind: 'usage',
      what: 'there is no such setting',
      where: '--settings',
      expected: SETTINGS.map((known) => known.name).join(', '),
      found: name,
      cure: 'name one of them, or both with a comma between them',
    });
  });
  const [first = PUBLISHED] = settings;
  const any = { setting: first, seed: 0, folder: options.folder, model: DEEPFM };
  const room = await openTrainingRoom(
    predictionConfig(any, { store: options.folder, taskCount: 0 }),
    Number(options.workers),
    context,
  );
  // Side by side: a run waits for its workers most of the time.
  const seeds = options.seeds.split(',').map(Number);
  const results = await Promise.all(
    settings.map(async (setting) => ({
      setting: setting.name,
      seeds: await Promise.all(
        seeds.map((seed) =>
          reproduceSeed({
            ...{ movielens, split, room, setting, seed },
            folder: join(options.folder, setting.name, String(seed)),
            model: DEEPFM,
            say: (message) => {
              context.sink({ kind: 'notice', message });
            },
            monotonicMs: () => context.clock.monotonicMs(),
          }),
        ),
      ),
    })),
  );
  const page = resultsPage(header, results);
  writeFileSync(join(RESULTS, 'meta-embedding.md'), page);
  const record = { ...header, published: PUBLISHED_TABLE, results };
  writeFileSync(join(RESULTS, 'meta-embedding.json'), `${JSON.stringify(record, null, 1)}\n`);
  context.print(page);
} catch (error) {
  if (!(error instanceof QianmoError)) throw error;
  process.stderr.write(`${formatFailure(error)}\n`);
  process.exitCode = EXIT_CODE_BY_KIND[error.kind];
} finally {
  await context.close();
}
