/** The product's side of a cell: runs of the command, each of which searches, trains and evaluates. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import type { Unit } from './arm-units.js';
import type { CellFiles, RealCell } from './cell-files.js';
import { evaluatedArms, qianmo } from './evaluated-arms.js';

/** The length of a search of `auto`: minutes, or a number of trials however long they take. */
export interface SearchLength {
  readonly budgetMinutes: number;
  readonly trialsMax: number | null;
}

interface ProductSide {
  readonly name: string;
  /** The store that its data section asks for, within the folder of the cell. */
  readonly store: string;
  /** False if it trains the one model that its config names. */
  readonly searches: boolean;
  /** The fields of the config besides the data. */
  readonly sections: (length: SearchLength) => object;
}

/** `auto` as a person would run it, and a plain DeepFM for all tasks on the same fields as the peer's, without encodings across tasks. */
export const PRODUCT_SIDES: readonly ProductSide[] = [
  {
    name: 'plain',
    store: 'store-plain',
    searches: false,
    sections: () => ({
      model: { kind: 'deepfm', embeddingWidth: 16, hiddenWidths: [64, 32], personal: ['bias'] },
      method: { kind: 'global' },
      training: PLAIN_TRAINING,
    }),
  },
  {
    name: 'auto',
    store: 'store',
    searches: true,
    sections: ({ budgetMinutes, trialsMax }) => ({
      auto: trialsMax === null ? { budgetMinutes } : { trialsMax },
    }),
  },
];

/** One setting for all sets, where the peer's DeepFM searches. */
const PLAIN_TRAINING = {
  ...{ outerSteps: 2000, rowsPerOuterStep: 768, taskWeight: 'examples' },
  optimizer: { kind: 'adam', rate: 0.003 },
  schedule: { warmupOuterSteps: 20, decay: 'cosine', finalShare: 0.05 },
  ...{ weightDecay: 0.1, dropout: 0.3, inputDropout: 0.3, idDropout: 0.1 },
  ...{ gradientNormMax: 5, biasStart: 'click-rate' },
  earlyStopping: { everyOuterSteps: 25, patience: 20, tasksMax: 500 },
};

/** The data section of a config for a cell. */
export function dataOf(
  { features }: Pick<RealCell['set'], 'features'>,
  files: CellFiles,
  store: string,
): object {
  return {
    ...{ logs: files.log, store, task: 'task', features, splitFile: files.split },
    label: { clicks: 'clicks', impressions: 'impressions' },
    rowSplit: { by: 'hash', supportRowsMin: 1, queryRowsMin: 1 },
    trunkRows: 'small-tasks',
  };
}

export function productUnit(
  { name, store, searches, sections }: ProductSide,
  { set, seed }: RealCell,
  files: CellFiles,
  length: SearchLength,
): Unit {
  const output = join(files.folder, `run-${name}`);
  const text = stringify({
    ...{ run: `real-${name}`, seed },
    data: dataOf(set, files, join(files.folder, store)),
    ...sections(length),
    output,
  });
  return {
    ...{ name: `qianmo-${name}`, side: 'product', folder: files.folder, wanted: text },
    run: async () => {
      mkdirSync(output, { recursive: true });
      const path = join(output, 'run.yaml');
      writeFileSync(path, text);
      await qianmo('prepare', path);
      await qianmo(searches ? 'auto' : 'train', path, '--processes', '1', '--fresh');
      const search = join(output, 'auto');
      const model = searches
        ? { config: join(search, 'best.yaml'), tried: triedIn(join(search, 'auto.json')) }
        : { config: path, tried: 1 };
      return evaluatedArms(name, model, files);
    },
  };
}

const SearchRecordSchema = z.looseObject({
  trials: z.array(
    z.looseObject({ scores: z.array(z.unknown()), averageOf: z.array(z.string()).optional() }),
  ),
});

function triedIn(record: string): number {
  const { trials } = SearchRecordSchema.parse(JSON.parse(readFileSync(record, 'utf8')));
  return trials.filter(({ scores, averageOf }) => scores.length > 0 && averageOf === undefined)
    .length;
}
