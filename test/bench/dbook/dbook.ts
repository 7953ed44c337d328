/**
 * `npm run bench:dbook -- FOLDER`: PAML of IJCAI 2021 and what the system has beside it on dbook, in the
 * authors' protocol, against the figures that their code reached and predictors without a network.
 */

import { writeFileSync } from 'node:fs';
import { createExecutor } from '../../../worker/compute/create-executor.js';
import { benchHeader } from '../bench-header.js';
import { ARMS } from './arms.js';
import { biasPredictor, type Predictor } from './bias-predictors.js';
import { readDbook, SCENARIOS, type Dbook, type Scenario } from './dbook-files.js';
import { storeOf, tasksOfSeed, type DbookTask } from './dbook-tasks.js';
import { tableOf, type ArmScores } from './results-table.js';
import { meanScores, scoresOf, type Scores } from './scores.js';
import { predictionsOf } from './trained-arm.js';

const SEEDS = [1, 2, 3];
const BOOK_PRIOR = 5;
const PUBLISHER_PRIOR = 10;

type ByScenario = Readonly<Record<Scenario, Scores>>;
type Judged = Readonly<Record<Scenario | 'training', Scores>>;

async function main([folder = '../shared/data/dbook', ...rest]: readonly string[]): Promise<void> {
  const [only] = rest;
  const header = benchHeader();
  const dbook = readDbook(folder);
  const found = new Map<string, Judged[]>();
  const note = (name: string, seed: number, judged: Judged): void => {
    found.set(name, [...(found.get(name) ?? []), judged]);
    const { mae, rmse, ndcg, auc } = judged.training;
    const shown = [mae, rmse, ndcg, auc].map((x) => x.toFixed(4)).join(' ');
    const maes = SCENARIOS.map((scenario) => judged[scenario].mae.toFixed(4)).join(' ');
    process.stderr.write(`seed ${seed}, ${name}: validation ${shown}; test MAE ${maes}\n`);
  };
  for (const seed of only === undefined ? SEEDS : [1]) {
    const tasks = tasksOfSeed(dbook, seed);
    for (const [name, predictor] of biasPredictors(dbook, tasks))
      note(
        name,
        seed,
        judge(tasks, (task) => predictor(task)),
      );
    const store = storeOf(dbook, tasks, `dbook-${seed}`);
    const executor = await createExecutor({ openStore: () => Promise.resolve(store) });
    for (const arm of ARMS.filter(({ name }) => only === undefined || name.includes(only))) {
      const predictions = await predictionsOf(arm, store, executor, seed);
      note(
        arm.name,
        seed,
        judge(tasks, (_, taskIndex) => predictions.get(taskIndex) ?? []),
      );
    }
    await executor.close();
  }
  if (only !== undefined) return;
  const arms = [...found].map(([name, judged]): ArmScores => ({
    name,
    scores: byScenario(judged),
  }));
  const settings = { seeds: SEEDS, arms: ARMS };
  writeFileSync(
    'infra/results/dbook.json',
    `${JSON.stringify({ ...header, ...settings, found: arms }, null, 2)}\n`,
  );
  writeFileSync('infra/results/dbook.md', tableOf(header, SEEDS.length, arms));
}

function biasPredictors(dbook: Dbook, tasks: readonly DbookTask[]): [string, Predictor][] {
  return [
    [
      'shrunk support mean and publisher bias',
      biasPredictor(tasks, (book) => dbook.publishers.get(book) ?? 0, PUBLISHER_PRIOR),
    ],
    ['shrunk support mean and book bias', biasPredictor(tasks, (book) => book, BOOK_PRIOR)],
  ];
}

/** Validation users stand for `training`. */
function judge(
  tasks: readonly DbookTask[],
  predict: (task: DbookTask, taskIndex: number) => readonly number[],
): Judged {
  const scoresIn = (part: Scenario | 'training'): Scores => {
    const judged = [...tasks.entries()].filter(
      ([, task]) => task.part === part && task.split !== 'train',
    );
    return scoresOf(
      judged.map(([, task]) => task),
      judged.map(([index, task]) => predict(task, index)),
    );
  };
  return {
    training: scoresIn('training'),
    'warm-up': scoresIn('warm-up'),
    'cold users': scoresIn('cold users'),
    'cold items': scoresIn('cold items'),
    'both cold': scoresIn('both cold'),
  };
}

function byScenario(judged: readonly Judged[]): ByScenario {
  const mean = (scenario: Scenario): Scores => meanScores(judged.map((each) => each[scenario]));
  return {
    'warm-up': mean('warm-up'),
    'cold users': mean('cold users'),
    'cold items': mean('cold items'),
    'both cold': mean('both cold'),
  };
}

await main(process.argv.slice(2));
