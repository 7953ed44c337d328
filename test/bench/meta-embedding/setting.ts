/**
 * The settings of the reproduction: that of the published table, and the project's defaults. Each run is
 * an ordinary run config.
 */

import { join } from 'node:path';
import { RunConfigSchema, type RunConfig } from '../../../shared/config/run-config.js';
import { BASE_MODELS, type BaseModelName } from './base-models.js';
import { FEATURES } from './task-stores.js';

/**
 * Number of new films in one step of the warm-up, and of old films in one step of the generator.
 */
export const FILMS_PER_STEP = 25;
/** The blocks that the generator's passes adapt on and are judged on. */
export const GENERATOR_PASSES = [
  [0, 1],
  [2, 3],
  [1, 2],
] as const;

export interface Setting {
  readonly name: 'published' | 'own-default';
  /** Rows of the base's batches in the recovered order, or shuffled by seed. */
  readonly rowOrder: 'recovered' | 'shuffled';
  readonly optimizer: Readonly<Record<string, unknown>>;
  readonly batchRowCount: number;
  /**
   * Share of old films held out for validation. Training ends at the first part of a pass after
   * which their predictions get worse. Null: one full pass.
   */
  readonly earlyStopping: {
    readonly filmShare: number;
    readonly partsPerPass: number;
    readonly passesMax: number;
  } | null;
}

export const PUBLISHED: Setting = {
  name: 'published',
  rowOrder: 'recovered',
  optimizer: { kind: 'adam', rate: 1e-3, epsilonOn: 'raw', lazy: false },
  batchRowCount: 200,
  earlyStopping: null,
};

export const OWN_DEFAULT: Setting = {
  name: 'own-default',
  rowOrder: 'shuffled',
  optimizer: { kind: 'adam', rate: 1e-3 },
  batchRowCount: 500,
  earlyStopping: { filmShare: 0.05, partsPerPass: 4, passesMax: 1 },
};

export interface RunTerms {
  readonly setting: Setting;
  readonly seed: number;
  /** Folder of stores and checkpoints. */
  readonly folder: string;
  readonly model: BaseModelName;
}

/** A store, and the number of its tasks. */
export interface Stage {
  readonly store: string;
  readonly taskCount: number;
}

/** All variables are trained, on one batch after another. */
export function baseConfig(terms: RunTerms, name: string, { store, taskCount }: Stage): RunConfig {
  return runConfig(terms, name, store, {
    method: { kind: 'global' },
    training: { outerSteps: taskCount, tasksPerOuterStep: 1 },
  });
}

/** Only the generator is trained, on films. */
export function generatorConfig(terms: RunTerms, { store, taskCount }: Stage): RunConfig {
  return runConfig(terms, 'generator', store, {
    model: { generated: 'film' },
    method: {
      kind: 'meta-embedding',
      attributes: ['year', 'title', 'genres'],
      innerRate: 1e-4,
      coldShare: 0.1,
    },
    training: {
      outerSteps: Math.max(1, Math.floor(taskCount / FILMS_PER_STEP)),
      tasksPerOuterStep: FILMS_PER_STEP,
      startFrom: join(terms.folder, 'base-0'),
    },
  });
}

/** Only rows of the ID table are trained. */
export function warmUpConfig(terms: RunTerms, name: string, stage: Stage): RunConfig {
  return runConfig(terms, name, stage.store, {
    method: { kind: 'global' },
    training: {
      outerSteps: stage.taskCount,
      tasksPerOuterStep: 1,
      trainable: ['film'],
    },
  });
}

/** Nothing is trained: new films are predicted with their rows of the ID table. */
export function predictionConfig(terms: RunTerms, { store }: Stage): RunConfig {
  return runConfig(terms, 'prediction', store, {
    method: { kind: 'global' },
    training: { tasksPerOuterStep: 64 },
  });
}

interface RunPart {
  readonly model?: Readonly<Record<string, unknown>>;
  readonly method: Readonly<Record<string, unknown>>;
  readonly training: Readonly<Record<string, unknown>>;
}

function runConfig(
  { setting, seed, folder, model }: RunTerms,
  name: string,
  store: string,
  part: RunPart,
): RunConfig {
  return RunConfigSchema.parse({
    run: `${setting.name}-${model}-${seed}-${name}`,
    seed,
    data: {
      logs: 'none: the reproduction writes the stores itself',
      store,
      task: 'task',
      label: { column: 'click' },
      features: FEATURES.map((feature) => ({ name: feature.name, kind: feature.kind })),
    },
    model: { ...BASE_MODELS[model], ...part.model },
    method: part.method,
    training: {
      optimizer: setting.optimizer,
      sampling: 'sequential',
      // The authors' code does not clip gradients.
      gradientNormMax: 1e9,
      checkpointEveryOuterSteps: 1000,
      ...part.training,
    },
    output: join(folder, name),
  });
}
