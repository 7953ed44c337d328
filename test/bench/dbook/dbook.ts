/**
 * The method of PAML (IJCAI 2021) and this project's alternatives on dbook, in the authors'
 * protocol, against the figures of the authors' code and predictors without a network. Settings are
 * chosen on validation users, then all training users train. Writes `infra/results/dbook.json` and
 * `.md`.
 *
 *   npm run bench:dbook
 *   npm run bench:dbook -- --validate --arms gate --seeds 1
 *   npm run bench:dbook -- --page          the page again, from the recorded results
 */

import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader } from '../bench-header.js';
import { ARMS, BEST, GATES, NEIGHBOUR_ARMS } from './arms.js';
import { openBenchRuns, scoresIn, type BenchRuns, type ValidationCurve } from './bench-runs.js';
import { biasPredictor } from './bias-predictors.js';
import { readDbook, type Dbook, type Scenario } from './dbook-files.js';
import { testedTasks } from './dbook-tasks.js';
import { recordResults, writeRecordedPage } from './recorded-results.js';
import {
  OFFICIAL_BIASES,
  OFFICIAL_GATE,
  tableOf,
  type ArmDifference,
  type ArmScores,
  type ByScenario,
  type DbookResults,
} from './results-table.js';
import { errorsOf, meanDifference, meanScores, type MeanDifference } from './scores.js';
import type { Arm } from './trained-arm.js';
import { benchOptions } from '../options/bench-options.js';
import { listOf, anySeed, text } from '../options/option-values.js';

const BOOK_PRIOR = 5;
const PUBLISHER_PRIOR = 10;

/** Predictions of an arm's judged tasks, by seed. */
type PredictionsBySeed = ReadonlyMap<number, readonly (readonly number[])[]>;

const options = benchOptions(import.meta.url, {
  data: {
    value: text,
    default: new URL('../shared/data/dbook', packageRoot).pathname,
    about: 'folder of the data sets',
  },
  folder: {
    value: text,
    default: new URL('runs/dbook', packageRoot).pathname,
    about: 'folder of what the bench makes meanwhile',
  },
  seeds: { value: listOf(anySeed), default: '1,2,3', about: 'seeds, with commas between them' },
  arms: {
    value: text,
    default: '',
    about: 'selects arms whose name contains this; nothing is recorded in that case',
  },
  validate: {
    type: 'boolean',
    default: false,
    about: 'chooses settings on validation users and records nothing',
  },
  page: {
    type: 'boolean',
    default: false,
    about: 'makes the page again from the record and runs nothing',
  },
});

const { seeds } = options;
const predictions = new Map<string, PredictionsBySeed>();
const choices = new Map<string, NonNullable<ArmScores['chosen']>>();
if (options.page) process.stdout.write(writeRecordedPage());
else await runBench();

async function runBench(): Promise<void> {
  const header = benchHeader();
  const dbook = readDbook(options.data);
  const runs = await openBenchRuns(dbook, options.folder, header.commit);
  const isRecorded = options.arms === '';
  const arms = isRecorded
    ? ARMS
    : [...ARMS, ...NEIGHBOUR_ARMS].filter(({ name }) => name.includes(options.arms));
  for (const arm of arms) await runArm(arm, runs);
  await runs.close();
  if (options.validate) return;
  for (const [name, bySeed] of biasPredictions(dbook, runs)) predictions.set(name, bySeed);
  const results = resultsOf(runs);
  if (!isRecorded) {
    process.stdout.write(tableOf(header, results));
    return;
  }
  recordResults(header, ARMS, results);
  process.stdout.write(writeRecordedPage());
}

async function runArm(arm: Arm, runs: BenchRuns): Promise<void> {
  const chosen = await choice(arm, runs);
  choices.set(arm.name, chosen);
  say(`${arm.name}: ${curveWords(chosen)}`);
  if (options.validate) return;
  const bySeed = new Map<number, readonly (readonly number[])[]>();
  for (const seed of seeds)
    bySeed.set(seed, await runs.testPredictions(arm, seed, chosen.outerSteps));
  predictions.set(arm.name, bySeed);
}

function resultsOf(runs: BenchRuns): DbookResults {
  const held = [GATES[1], BEST].filter((name) => predictions.has(name));
  return {
    seeds,
    arms: [...predictions.keys()].map((name) => armScores(name, runs)),
    differences: held.flatMap((first) =>
      OFFICIAL_BIASES.map((second) => differenceOf(first, second, runs)),
    ),
    claims: [
      ...GATES.map((name): [string, string] => [name, OFFICIAL_GATE]),
      ...OFFICIAL_BIASES.map((against): [string, string] => [BEST, against]),
    ],
  };
}

/** The number of outer steps with the smallest mean RMSE over seeds. */
async function choice(arm: Arm, of: BenchRuns): Promise<NonNullable<ArmScores['chosen']>> {
  const curves: ValidationCurve[] = [];
  for (const seed of seeds) curves.push(await of.validationCurve(arm, seed));
  const [first = []] = curves;
  const curve = first.map(({ outerStep }, place) => ({
    outerStep,
    scores: meanScores(curves.flatMap((each) => each[place]?.scores ?? [])),
  }));
  const best = curve.reduce((least, point) =>
    point.scores.rmse < least.scores.rmse ? point : least,
  );
  return { outerSteps: best.outerStep, curve };
}

function curveWords({ outerSteps, curve }: NonNullable<ArmScores['chosen']>): string {
  const points = curve.map(({ outerStep, scores }) => {
    const { mae, rmse, ndcg, auc } = scores;
    return `\n  ${outerStep}: ${[mae, rmse, ndcg, auc].map((x) => x.toFixed(4)).join(' ')}`;
  });
  return `${outerSteps} outer steps${points.join('')}`;
}

function biasPredictions(of: Dbook, runs: BenchRuns): [string, PredictionsBySeed][] {
  const [publisherName, bookName] = OFFICIAL_BIASES;
  const groups: [string, (book: number) => number, number][] = [
    [publisherName, (book) => of.publishers.get(book) ?? 0, PUBLISHER_PRIOR],
    [bookName, (book) => book, BOOK_PRIOR],
  ];
  return groups.map(([name, groupOf, prior]) => [
    name,
    new Map(
      seeds.map((seed) => {
        const predict = biasPredictor(testedTasks(of, seed), groupOf, prior);
        return [seed, runs.judgedTasks(seed).map((task) => [...predict(task)])];
      }),
    ),
  ]);
}

function armScores(name: string, runs: BenchRuns): ArmScores {
  const ofArm = (scenario: Scenario): ArmScores['scores'][Scenario] =>
    meanScores(
      seeds.map((seed) =>
        scoresIn(scenario, runs.judgedTasks(seed), predictions.get(name)?.get(seed) ?? []),
      ),
    );
  return { name, scores: byScenario(ofArm), chosen: choices.get(name) ?? null };
}

function differenceOf(first: string, second: string, runs: BenchRuns): ArmDifference {
  const difference = (scenario: Scenario, metric: 'mae' | 'rmse'): MeanDifference => {
    const errors = (name: string): ReturnType<typeof errorsOf> =>
      seeds.flatMap((seed) => {
        const tasks = runs.judgedTasks(seed);
        const places = [...tasks.keys()].filter((place) => tasks[place]?.part === scenario);
        const all = predictions.get(name)?.get(seed) ?? [];
        return errorsOf(
          tasks.filter(({ part }) => part === scenario),
          places.map((place) => all[place] ?? []),
        );
      });
    return meanDifference(errors(first), errors(second), metric);
  };
  return {
    ...{ first, second },
    mae: byScenario((scenario) => difference(scenario, 'mae')),
    rmse: byScenario((scenario) => difference(scenario, 'rmse')),
  };
}

function byScenario<Value>(of: (scenario: Scenario) => Value): ByScenario<Value> {
  return {
    ...{ 'warm-up': of('warm-up'), 'cold users': of('cold users') },
    ...{ 'cold items': of('cold items'), 'both cold': of('both cold') },
  };
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
