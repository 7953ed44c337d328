/** The demo: searches for a model, compares it on held-out films and ranks with it, on the data that ships with the package. */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { CallOptions } from '../../coordinator/runs/run-handle.js';
import type { ComparisonReport } from '../../coordinator/scoring/compare-runs.js';
import type { SweepRecord, TrialRecord } from '../../coordinator/sweep/sweep-record.js';
import { describeValue } from '../../coordinator/sweep/trials.js';
import { at } from '../../shared/base/arrays.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { loadConfig, yamlOf } from '../../shared/config/yaml-file.js';
import { RankingClient, type Candidate, type ColumnValue } from './client.js';
import { auto, compare, evaluate, exportRun, openRun, prepare, serveRankings } from './index.js';
import { packageRoot } from './package-root.js';
import type { CommandSurroundings } from './verb.js';

const DEMO_EXAMPLE = 'infra/examples/movielens.yaml';

interface Demo {
  /** The folder for everything that the demo makes. */
  readonly out: string;
  /** Train and evaluate the example as it is written, too. */
  readonly full: boolean;
}

export async function runDemo({ out, full }: Demo, around: CommandSurroundings): Promise<void> {
  const { clock, options, print } = around;
  const startedMs = clock.monotonicMs();
  const config = await demoConfig(out);
  if (full) await runExample(config, around);
  print(
    'auto: a model from data alone; films stand in for adgroups, ratings of 4 or more for clicks',
  );
  const { record, best } = await searchFor(config, options);
  print(`\nfilms that no model has seen in training; the difference is from the first trial
${await comparisonOf(record, options)}
\nserve: three films for one user, by the best model
${await rankedFilms(best, config, options)}`);
  const seconds = Math.round((clock.monotonicMs() - startedMs) / 1000);
  print(`
Done in ${seconds} s. Where to look next:
  ${join(config.output, 'auto', 'auto.html')}   what the search tried, and why it chose
  ${join(best.output, 'report.html')}   the model that it chose, on held-out films
  ${shown('README.md')}   how to bring your own logs`);
}

/** Trains the example on this machine, in as many processes as pay off, and evaluates every arm. */
async function runExample(
  config: RunConfig,
  { options, print, show }: CommandSurroundings,
): Promise<void> {
  print(`${shown(DEMO_EXAMPLE)} as it is written: prepare, train, evaluate`);
  const { storeDocument } = await import('../../coordinator/reports/store-document.js');
  show(storeDocument(await prepare({ config }, options)));
  const run = await openRun({ config }, options);
  try {
    const { checkpoint, digest } = await run.train({ resume: true });
    print(`checkpoint ${checkpoint}\ndigest ${digest}`);
    const { evaluationDocument } = await import('../../coordinator/reports/evaluation-document.js');
    for (const report of await run.evaluate()) show(evaluationDocument(report));
  } finally {
    await run.close();
  }
}

/** The path of a file of the package, relative to the current folder. */
function shown(file: string): string {
  return relative(process.cwd(), fileURLToPath(new URL(file, packageRoot)));
}

const TRIALS_MAX = 4;

/**
 * Prepares a store of its own from the same split, with what a search adds to the data, and searches with a fixed number of
 * trials: the choice does not depend on how fast the machine is.
 */
async function searchFor(
  { run, seed, data, output }: RunConfig,
  options: CallOptions,
): Promise<{ record: SweepRecord; best: RunConfig }> {
  const path = join(output, 'auto.yaml');
  const store = join(output, 'auto', 'store');
  const dataAlone = {
    run: `${run}-auto`,
    seed,
    data: { ...data, store },
    auto: { trialsMax: TRIALS_MAX },
  };
  await mkdir(output, { recursive: true });
  await writeFile(path, yamlOf({ ...dataAlone, output }));
  // The search keeps its record in this folder; that of the demo's run is not to end with this call.
  await prepare({ config: { ...dataAlone, output: join(output, 'auto') } }, options);
  const record = await auto({ config: path, resume: true }, options);
  if (record.best === null) throw new Error('a finished search has a best trial');
  return { record, best: await loadConfig(RUN_CONFIG, record.best.config) };
}

/** The chosen model and those that were trained, on the same held-out films. */
async function comparisonOf({ trials, best }: SweepRecord, options: CallOptions): Promise<string> {
  const compared = trials.filter(
    ({ name, averageOf }) => name === best?.trial || averageOf === undefined,
  );
  const runs: string[] = [];
  for (const { output } of compared) {
    const config = await loadConfig(RUN_CONFIG, join(output, 'run.yaml'));
    const arm = servedArm(config);
    const arms: RunConfig['evaluation']['arms'] = arm === 'global' ? [arm] : ['meta-adapted', arm];
    await evaluate({ config: { ...config, evaluation: { ...config.evaluation, arms } } }, options);
    runs.push(`${output}:${arm}`);
  }
  return comparisonTable(compared, await compare({ runs }, options));
}

/** The arm that a bundle of the run serves. */
function servedArm({ method }: RunConfig): 'global' | 'meta-chosen' {
  return method.kind === 'global' ? 'global' : 'meta-chosen';
}

/** The best first. */
async function comparisonTable(
  trials: readonly TrialRecord[],
  { runs, slices: [all] }: ComparisonReport,
): Promise<string> {
  const { textTable } = await import('../../coordinator/reports/document/as-text.js');
  const { columnsOf } = await import('../../coordinator/reports/document/document.js');
  const { formatSigned } = await import('../../coordinator/reports/document/format.js');
  const rows = trials.map((trial, place) => {
    const found = all?.arms.find(({ arm }) => arm === at(runs, place).label);
    if (found === undefined) throw new Error(`the comparison has no trial ${trial.name}`);
    const { metrics, differences } = found;
    const ofAll = differences[0]?.perImpression;
    const interval =
      ofAll && [ofAll.value, ofAll.low, ofAll.high].map((each) => formatSigned(each));
    const [value = '', low = '', high = ''] = interval ?? [];
    return {
      logloss: metrics.logloss,
      cells: [
        trial.name,
        wordsOf(trial),
        metrics.logloss.toFixed(4),
        interval === undefined ? '' : `${value} [${low}, ${high}]`,
        metrics.auc?.toFixed(4) ?? '-',
      ],
    };
  });
  return textTable({
    columns: columnsOf('<trial', '<model', 'logloss', 'difference, 95 % interval', 'AUC'),
    rows: rows.sort((a, b) => a.logloss - b.logloss).map(({ cells }) => cells),
  });
}

function wordsOf({ averageOf, settings }: TrialRecord): string {
  if (averageOf !== undefined) return `the mean of ${averageOf.join(' and ')}`;
  const [model, adapts] = [settings['model'], settings['adapts']].map(describeValue);
  return adapts === 'nothing' ? `${model}, one for all` : `${model}, ${adapts}`;
}

export type Rating = Readonly<Record<string, string>>;

/** The ratings of the demo's log, by column, in order of the log. */
export async function readRatings(path: string): Promise<Rating[]> {
  const text = gunzipSync(await readFile(path)).toString('utf8');
  const [head = '', ...lines] = text.trimEnd().split('\n');
  const columns = fieldsOf(head);
  return lines.map((line) => {
    const fields = fieldsOf(line);
    return Object.fromEntries(columns.map((column, place) => [column, at(fields, place)]));
  });
}

/** The fields of a line of CSV without line breaks in fields. */
function fieldsOf(line: string): string[] {
  return [...line.matchAll(/(?:^|,)("(?:[^"]|"")*"|[^",]*)/g)].map(([, field = '']) =>
    field.startsWith('"') ? field.slice(1, -1).replaceAll('""', '"') : field,
  );
}

export function contextOf({ userId = '', timestamp }: Rating): Record<string, ColumnValue> {
  return { userId, timestamp: Number(timestamp) };
}

export function candidateOf({ movieId = '', genres = '', year }: Rating): Candidate {
  return { adgroup: movieId, features: { genres, year: year === '' ? null : Number(year) } };
}

const RANKED_FILMS = 3;

/** Exports the model, and ranks the films with most ratings for the user of the last one. */
async function rankedFilms(
  config: RunConfig,
  { data }: RunConfig,
  options: CallOptions,
): Promise<string> {
  const { bundles } = await exportRun({ config }, options);
  const ratings = await readRatings(at([data.logs].flat(), 0));
  const films = new Map<string, Rating[]>();
  for (const rating of ratings) {
    const { movieId = '' } = rating;
    films.set(movieId, [...(films.get(movieId) ?? []), rating]);
  }
  const most = [...films.values()].sort((a, b) => b.length - a.length).slice(0, RANKED_FILMS);
  const candidates = most.map((ofFilm) => at(ofFilm, 0));
  const request = {
    context: contextOf(at(ratings, ratings.length - 1)),
    candidates: candidates.map(candidateOf),
  };
  const service = await serveRankings({ bundle: bundles, port: 0 }, options);
  try {
    const client = new RankingClient({ url: service.url });
    const { order, probabilities } = await client.rank(request);
    const lines = order.map((place) => {
      const { title = '' } = at(candidates, place);
      return `  ${(at(probabilities, place) ?? 0).toFixed(3)}  ${title}`;
    });
    return [
      ...lines,
      'To ask yourself:',
      `  npx qianmo serve ${bundles} --port 8080`,
      `  curl -s localhost:8080/v1/rank -H 'content-type: application/json' -d '${JSON.stringify(request)}'`,
    ].join('\n');
  } finally {
    await service.close();
  }
}

/**
 * The config of the MovieLens example, with its files found from any folder.
 *
 * @param out takes the task store, the checkpoints and the reports
 */
export async function demoConfig(out: string): Promise<RunConfig> {
  const config = await loadConfig(RUN_CONFIG, fileURLToPath(new URL(DEMO_EXAMPLE, packageRoot)));
  const logs = [config.data.logs].flat().map((log) => fileURLToPath(new URL(log, packageRoot)));
  const store = `${out.replace(/\/+$/, '')}/store`;
  return { ...config, output: out, data: { ...config.data, logs, store } };
}
