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
import { listOf, oneOf, anySeed, text, wholeNumber } from '../options/option-values.js';

const SETTINGS = [PUBLISHED, OWN_DEFAULT];
const RESULTS = new URL('infra/results/', packageRoot).pathname;

const options = benchOptions(import.meta.url, {
  settings: {
    value: listOf(oneOf(SETTINGS.map(({ name }) => name))),
    default: 'own-default,published',
    about: 'settings to run, with commas between them',
  },
  models: {
    value: listOf(oneOf(BASE_MODEL_NAMES)),
    default: 'deepfm',
    about: 'models to run, with commas between them',
  },
  seeds: { value: listOf(anySeed), default: '0,1,2', about: 'seeds, with commas between them' },
  folder: {
    value: text,
    default: join(packageRoot.pathname, 'runs/meta-embedding'),
    about: 'folder of what the bench makes meanwhile',
  },
  workers: { value: wholeNumber(0), default: '2', about: 'workers on the queue; 0 uses none' },
  fresh: { type: 'boolean', default: false, about: 'runs again what is recorded' },
});

const { commit, date, machine } = benchHeader();
const context = openBenchContext();
try {
  const { models, seeds } = options;
  const settings = options.settings.flatMap((asked) =>
    SETTINGS.filter(({ name }) => name === asked),
  );
  const movielens = readMovielens();
  const split = publishedSplit(movielens.ratings);
  const [first = PUBLISHED] = settings;
  const any = { setting: first, seed: 0, folder: options.folder, model: models[0] ?? 'deepfm' };
  const room = await openTrainingRoom(
    predictionConfig(any, { store: options.folder, taskCount: 0 }),
    options.workers,
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
