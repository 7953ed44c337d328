/**
 * One seed of the reproduction: base pre-training, generator training, then the phases of new
 * films, cold and after one step on each of their blocks, with and without generated embeddings.
 */

import { join } from 'node:path';
import type { StartFrom } from '../../../coordinator/training/train-options.js';
import {
  baseTasks,
  filmTasks,
  generatorTasks,
  shuffledOrder,
  warmUpTasks,
} from './films-as-tasks.js';
import { withGeneratedRows } from './generated-rows.js';
import type { Movielens, PublishedRow } from './movielens-files.js';
import {
  type FilmRows,
  inPublishedOrder,
  NEW_BLOCK_COUNT,
  type PublishedSplit,
} from './published-split.js';
import type { MeasuredRun } from './results-record.js';
import { recoveredOrder } from './row-order.js';
import {
  baseConfig,
  generatorConfig,
  predictionConfig,
  type RunTerms,
  type Stage,
  warmUpConfig,
} from './setting.js';
import { keptTaskStore, type StoredTask } from './task-stores.js';
import type { RowMetrics, TrainedRun, TrainingRoom } from './training-room.js';

export interface SeedTerms extends RunTerms {
  /** Folder of the task stores; runs that train on the same rows share them. */
  readonly storesFolder: string;
  readonly movielens: Movielens;
  readonly split: PublishedSplit;
  readonly room: TrainingRoom;
  readonly say: (text: string) => void;
}

type SeedResult = Pick<
  MeasuredRun,
  'base' | 'metaEmbedding' | 'baseStepsPerSecond' | 'generatorStepsPerSecond'
>;

interface Stages {
  /** Parts of the training rows, in training order. */
  readonly base: readonly Stage[];
  readonly validation: Stage | null;
  readonly generator: Stage;
  readonly warmUp: readonly Stage[];
  readonly newFilms: Stage;
}

/** Stages that an earlier start has trained are not trained again. */
export async function reproduceSeed(terms: SeedTerms): Promise<SeedResult> {
  const { room, seed, setting, model } = terms;
  const say = (text: string): void => terms.say(`${setting.name}, ${model}, seed ${seed}: ${text}`);
  const stages = await writeStages(terms);
  const prediction = predictionConfig(terms, stages.newFilms);

  const base = await trainBase(terms, stages, say);
  const { metaParameters } = base.state;
  const baseCold = await room.measure(prediction, metaParameters, 'test');
  say(`base, cold ${shown(baseCold)}`);

  const generator = await room.train(generatorConfig(terms, stages.generator), { metaParameters });
  const learned = generator.state.metaParameters;
  const onNewFilms = generatorConfig(terms, stages.newFilms);
  const generatedCold = await room.measure(onNewFilms, learned, 'test');
  say(`Meta-Embedding, cold ${shown(generatedCold)}`);

  const generated = withGeneratedRows(
    metaParameters,
    learned.dense.get('generator.weight')?.values ?? new Float32Array(),
    terms.movielens.films,
    terms.split.newFilms.map(({ filmId }) => filmId),
  );
  const warmUp = async (name: string, start: StartFrom): Promise<RowMetrics[]> => {
    const phases: RowMetrics[] = [];
    let state = start;
    for (const [block, stage] of stages.warmUp.entries()) {
      const config = warmUpConfig(terms, `${name}-${'abc'[block]}`, stage);
      ({ state } = await room.train(config, state));
      phases.push(await room.measure(prediction, state.metaParameters, 'test'));
    }
    say(`${name}, warm ${phases.map(shown).join(', ')}`);
    return phases;
  };
  return {
    base: [baseCold, ...(await warmUp('base-warm', base.state))],
    metaEmbedding: [
      generatedCold,
      ...(await warmUp('generated-warm', { ...base.state, metaParameters: generated })),
    ],
    baseStepsPerSecond: base.stepsPerSecond,
    generatorStepsPerSecond: generator.stepsPerSecond,
  };
}

/** Trains part by part until the predictions for the validation films get worse. */
async function trainBase(
  terms: SeedTerms,
  { base, validation }: Stages,
  say: (text: string) => void,
): Promise<TrainedRun> {
  let best: { trained: TrainedRun; logloss: number } | null = null;
  let trained: TrainedRun | undefined;
  for (const [part, stage] of base.entries()) {
    trained = await terms.room.train(baseConfig(terms, `base-${part}`, stage), trained?.state);
    if (validation === null) continue;
    const measured = await terms.room.measure(
      predictionConfig(terms, validation),
      trained.state.metaParameters,
      'validation',
    );
    say(`part ${part + 1} of ${base.length}, validation ${shown(measured)}`);
    if (best !== null && measured.logloss >= best.logloss) break;
    best = { trained, logloss: measured.logloss };
  }
  const chosen = best?.trained ?? trained;
  if (chosen === undefined) throw new Error('there is nothing to train on');
  return chosen;
}

async function writeStages(terms: SeedTerms): Promise<Stages> {
  const { split, movielens, setting, storesFolder } = terms;
  const { oldRows, newRows } = split;
  const ofKind = (isOld: boolean) => movielens.published.filter((row) => row.isOld === isOld);
  const newFilms = inPublishedOrder(split.newFilms, ofKind(false));
  const { trained, heldOut } = filmsOf(terms, inPublishedOrder(split.oldFilms, ofKind(true)));
  const write = async (
    name: string,
    rows: PublishedSplit['oldRows'],
    tasks: readonly StoredTask[],
  ): Promise<Stage> => ({
    store: await keptTaskStore(join(storesFolder, name), rows, movielens, tasks),
    taskCount: tasks.length,
  });
  const base: Stage[] = [];
  for (const [part, order] of rowOrders(terms, trained, ofKind(true)).entries())
    base.push(await write(`base-${part}`, oldRows, baseTasks(order, setting.batchRowCount)));
  const warmUp: Stage[] = [];
  for (let block = 0; block < NEW_BLOCK_COUNT; block += 1)
    warmUp.push(await write(`warm-${'abc'[block]}`, newRows, warmUpTasks(newFilms, block)));
  return {
    base,
    validation:
      heldOut.length === 0
        ? null
        : await write('validation', oldRows, filmTasks(heldOut, 'validation')),
    generator: await write('generator', oldRows, generatorTasks(trained)),
    warmUp,
    newFilms: await write('new-films', newRows, filmTasks(newFilms, 'test')),
  };
}

function filmsOf(
  { setting: { earlyStopping }, seed }: SeedTerms,
  films: readonly FilmRows[],
): { trained: readonly FilmRows[]; heldOut: readonly FilmRows[] } {
  if (earlyStopping === null) return { trained: films, heldOut: [] };
  const order = shuffledOrder(films.length, seed, 'validation films');
  const heldOut = new Set(order.subarray(0, Math.round(films.length * earlyStopping.filmShare)));
  return {
    trained: films.filter((_, place) => !heldOut.has(place)),
    heldOut: films.filter((_, place) => heldOut.has(place)),
  };
}

/** The rows of each part of the training, in order. */
function rowOrders(
  { setting, split, seed }: SeedTerms,
  trained: readonly FilmRows[],
  known: readonly PublishedRow[],
): Int32Array[] {
  const { oldRows } = split;
  const { earlyStopping } = setting;
  if (setting.rowOrder === 'recovered') return [recoveredOrder(oldRows, known)];
  const rows = trained.flatMap(({ blocks, rest }) => [...blocks.flat(), ...rest]);
  const { partsPerPass, passesMax } = earlyStopping ?? { partsPerPass: 1, passesMax: 1 };
  return Array.from({ length: passesMax }, (_, pass) => {
    const order = shuffledOrder(rows.length, seed, `rows of pass ${pass}`);
    return Array.from({ length: partsPerPass }, (__, part) => {
      const end = (share: number): number => Math.floor((rows.length * share) / partsPerPass);
      return order.subarray(end(part), end(part + 1)).map((place) => rows[place] ?? 0);
    });
  }).flat();
}

function shown({ auc, logloss }: RowMetrics): string {
  return `${auc.toFixed(4)} / ${logloss.toFixed(4)}`;
}
