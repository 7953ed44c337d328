/**
 * The runs of the bench: an arm on held-out training users, and on the scenarios. Each run is kept
 * in a file.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../../worker/compute/job/create-executor.js';
import type { Dbook } from './dbook-files.js';
import { storeOf } from './dbook-store.js';
import {
  testedTasks,
  VALIDATION_PARTS,
  validatedTasks,
  type DbookTask,
  type Part,
} from './dbook-tasks.js';
import { meanScores, scoresOf, type Scores } from './scores.js';
import { trainArm, type Arm, type PredictionsByTask } from './trained-arm.js';

const ScoresSchema = z.object({
  mae: z.number(),
  rmse: z.number(),
  ndcg: z.number(),
  auc: z.number(),
});
const CurveSchema = z.array(z.object({ outerStep: z.number(), scores: ScoresSchema }));
/** Scores on validation users during training. */
export type ValidationCurve = z.infer<typeof CurveSchema>;
const PredictionsSchema = z.array(z.array(z.number()));

export interface BenchRuns {
  /** Mean over both validation parts. */
  readonly validationCurve: (arm: Arm, seed: number) => Promise<ValidationCurve>;
  /** Predicted ratings of the judged tasks of a seed, in the order of `judgedTasks`. */
  readonly testPredictions: (arm: Arm, seed: number, outerSteps: number) => Promise<number[][]>;
  /** Predictions on the scenarios. */
  readonly judgedTasks: (seed: number) => readonly DbookTask[];
  readonly close: () => Promise<void>;
}

/** @param folder keeps the runs of this commit, so that a stopped bench can resume. */
export async function openBenchRuns(
  dbook: Dbook,
  folder: string,
  commit: string,
): Promise<BenchRuns> {
  mkdirSync(folder, { recursive: true });
  const opened: { store: TaskStore | null } = { store: null };
  const executor = await createExecutor({
    openStore: ({ digest }) => {
      if (opened.store === null) throw new Error(`no store ${digest}`);
      return Promise.resolve(opened.store);
    },
  });
  const kept = async <Value>(
    what: Readonly<Record<string, unknown>>,
    schema: z.ZodType<Value>,
    run: (digest: string) => Promise<Value>,
  ): Promise<Value> => {
    const digest = createHash('sha256')
      .update(canonicalJson({ ...what, commit }))
      .digest('hex');
    const path = join(folder, `${digest.slice(0, 32)}.json`);
    if (existsSync(path)) return schema.parse(JSON.parse(readFileSync(path, 'utf8')));
    const value = await run(digest);
    writeFileSync(path, JSON.stringify(value));
    return value;
  };
  const storeFor = (tasks: readonly DbookTask[], arm: Arm, digest: string): TaskStore => {
    opened.store = storeOf(dbook, tasks, arm.features, digest);
    return opened.store;
  };
  const judged = bySeed((seed) => testedTasks(dbook, seed).filter(isJudged));
  return {
    validationCurve: (arm, seed) =>
      kept({ arm, seed, on: 'validation' }, CurveSchema, (digest) => {
        const tasks = validatedTasks(dbook, seed);
        const { every, most } = arm.outerSteps;
        const store = storeFor(tasks, arm, digest);
        return curveOf(arm, tasks, { store, executor, seed, every, outerSteps: most });
      }),
    testPredictions: (arm, seed, outerSteps) =>
      kept({ arm, seed, on: 'test', outerSteps }, PredictionsSchema, async (digest) => {
        const tasks = testedTasks(dbook, seed);
        const store = storeFor(tasks, arm, digest);
        let found: PredictionsByTask = new Map();
        const run = { store, executor, seed, outerSteps, every: outerSteps };
        await trainArm(arm, run, (_, predictions) => (found = predictions));
        return [...found.values()].map((ofTask) => [...ofTask]);
      }),
    judgedTasks: judged,
    close: () => executor.close(),
  };
}

interface CurveRun {
  readonly store: TaskStore;
  readonly executor: LocalExecutor;
  readonly seed: number;
  readonly every: number;
  readonly outerSteps: number;
}

async function curveOf(
  arm: Arm,
  tasks: readonly DbookTask[],
  run: CurveRun,
): Promise<ValidationCurve> {
  const curve: ValidationCurve = [];
  await trainArm(arm, run, (outerStep, predictions) => {
    const ofJudged = tasks.filter(isJudged);
    const scores = VALIDATION_PARTS.map((part) =>
      scoresIn(part, ofJudged, [...predictions.values()]),
    );
    curve.push({ outerStep, scores: meanScores(scores) });
  });
  return curve;
}

export function scoresIn(
  part: Part,
  tasks: readonly DbookTask[],
  predictions: readonly (readonly number[])[],
): Scores {
  const places = [...tasks.keys()].filter((place) => tasks[place]?.part === part);
  return scoresOf(
    tasks.filter((task) => task.part === part),
    places.map((place) => predictions[place] ?? []),
  );
}

function isJudged({ split }: DbookTask): boolean {
  return split !== 'train';
}

function bySeed<Value>(make: (seed: number) => Value): (seed: number) => Value {
  const made = new Map<number, Value>();
  return (seed) => {
    const value = made.get(seed) ?? make(seed);
    made.set(seed, value);
    return value;
  };
}
