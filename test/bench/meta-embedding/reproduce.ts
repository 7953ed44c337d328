/**
 * Reproduces Meta-Embedding (Pan et al., SIGIR 2019) on MovieLens 1M, through the job system.
 *
 *   npm run reproduce:meta-embedding -- --settings published --seeds 0,1,2 --models deepfm,fm
 *
 * A stopped run resumes when started again, and a finished one is not run again, unless with
 * `--fresh`. `--workers 0` computes without a queue and gives the same digits. The tables keep
 * earlier records, except for the runs of this start.
 */

import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT_CODE_BY_KIND, formatFailure, QianmoError } from '../../../shared/base/errors.js';
import { openBenchContext } from '../bench-context.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader } from '../bench-header.js';
import { BASE_MODEL_NAMES } from './base-models.js';
import { readMovielens } from './movielens-files.js';
import { publishedSplit } from './published-split.js';
import { reproduceSeed, type SeedTerms } from './one-seed.js';
import { resultsPage } from './results-page.js';
import {
  readFinishedRun,
  readRecord,
  withRun,
  writeFinishedRun,
  writeRecord,
  type MeasuredRun,
} from './results-record.js';
import { OWN_DEFAULT, PUBLISHED, predictionConfig, type Setting } from './setting.js';
import { openTrainingRoom } from './training-room.js';
import { benchOptions } from '../options/bench-options.js';

const SETTINGS = [PUBLISHED, OWN_DEFAULT];
const RESULTS = new URL('infra/results/', packageRoot).pathname;

const options = benchOptions(import.meta.url, {
  settings: {
    type: 'string',
    default: 'own-default,published',
    about: 'settings to run, with commas between them',
  },
  models: { type: 'string', default: 'deepfm', about: 'models to run, with commas between them' },
  seeds: { type: 'string', default: '0,1,2', about: 'seeds, with commas between them' },
  folder: {
    type: 'string',
    default: join(packageRoot.pathname, 'runs/meta-embedding'),
    about: 'folder of what the bench makes meanwhile',
  },
  workers: { type: 'string', default: '2', about: 'workers of each run' },
  fresh: { type: 'boolean', default: false, about: 'runs again what is recorded' },
});

const { commit, date, machine } = benchHeader();
const context = openBenchContext();
try {
  const settings = namedIn(options.settings, '--settings', SETTINGS, ({ name }) => name);
  const models = namedIn(options.models, '--models', BASE_MODEL_NAMES, (name) => name);
  const seeds = options.seeds.split(',').map(Number);
  const movielens = readMovielens();
  const split = publishedSplit(movielens.ratings);
  const [first = PUBLISHED] = settings;
  const any = { setting: first, seed: 0, folder: options.folder, model: models[0] ?? 'deepfm' };
  const room = await openTrainingRoom(
    predictionConfig(any, { store: options.folder, taskCount: 0 }),
    Number(options.workers),
    context,
  );
  const say = (message: string): void => void process.stderr.write(`${message}\n`);
  const run = async (terms: SeedTerms): Promise<void> => {
    const { setting, model, seed } = terms;
    const resultPath = join(terms.folder, 'result.json');
    const finished = readFinishedRun(resultPath);
    const measured = finished ?? {
      ...{ model, setting: setting.name, seed, commit, date, machine },
      ...(await reproduceSeed(terms)),
    };
    if (finished === null) writeFinishedRun(resultPath, measured);
    record(measured);
  };
  // Concurrently: a run waits for its workers most of the time.
  await Promise.all(
    settings.flatMap((setting) =>
      models.flatMap((model) =>
        seeds.map((seed) => {
          const folder = join(options.folder, setting.name, model, String(seed));
          if (options.fresh && existsSync(folder)) rmSync(folder, { recursive: true });
          const storesFolder = storesFolderOf(setting, seed);
          return run({ setting, model, seed, folder, storesFolder, movielens, split, room, say });
        }),
      ),
    ),
  );
  context.print(resultsPage(readRecord(join(RESULTS, 'meta-embedding.json'))));
} catch (error) {
  if (!(error instanceof QianmoError)) throw error;
  process.stderr.write(`${formatFailure(error)}\n`);
  process.exitCode = EXIT_CODE_BY_KIND[error.kind];
} finally {
  await context.close();
}

/** Shuffled rows differ by seed, but recovered ones do not. */
function storesFolderOf({ name, rowOrder }: Setting, seed: number): string {
  return join(options.folder, name, rowOrder === 'shuffled' ? `stores-${seed}` : 'stores');
}

function record(run: MeasuredRun): void {
  const path = join(RESULTS, 'meta-embedding.json');
  const runs = withRun(readRecord(path), run);
  writeRecord(path, runs);
  writeFileSync(join(RESULTS, 'meta-embedding.md'), resultsPage(runs));
}

function namedIn<Known>(
  text: string,
  where: string,
  known: readonly Known[],
  nameOf: (one: Known) => string,
): Known[] {
  return text.split(',').map((name) => {
    const found = known.find((one) => nameOf(one) === name);
    if (found !== undefined) return found;
    throw new QianmoError({
      kind: 'usage',
      what: 'there is no such name',
      where,
      expected: known.map(nameOf).join(', '),
      found: name,
      cure: 'name one of them, or several separated by commas',
    });
  });
}
