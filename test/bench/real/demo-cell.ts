/**
 * The demo's own division of MovieLens: the rows and roles of the store that `prepare` writes for
 * `infra/examples/movielens.yaml`, for the peers.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import { at, numberAt } from '../../../shared/base/arrays.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { qianmo } from '../qianmo-command.js';
import { writtenCell, writeCellFiles, type WrittenCell } from './cell-files.js';
import type { RealSet } from './real-sets.js';
import type { RoledRow } from './row-roles.js';
import { movielensSmallLog } from './set-logs.js';

const EXAMPLE = new URL('infra/examples/movielens.yaml', packageRoot);
const LOGS = new URL('infra/examples/movielens/movielens.csv.gz', packageRoot);
const ExampleSchema = z.looseObject({ seed: z.int(), data: z.looseObject({}) });

/** The seed of the example's config, which its division follows from. */
export function demoSeed(): number {
  return ExampleSchema.parse(parse(readFileSync(EXAMPLE, 'utf8'))).seed;
}

export async function writeDemoCell(set: RealSet, folder: string): Promise<WrittenCell> {
  const ofCell = resolve(folder, 'movielens-demo');
  mkdirSync(ofCell, { recursive: true });
  const example = ExampleSchema.parse(parse(readFileSync(EXAMPLE, 'utf8')));
  const store = join(ofCell, 'example-store');
  const config = join(ofCell, 'example.yaml');
  const data = { ...example.data, logs: LOGS.pathname, store };
  writeFileSync(config, stringify({ ...example, data, output: join(ofCell, 'example') }));
  qianmo('prepare', config);
  const opened = await openTaskStore(store, {});
  try {
    const log = movielensSmallLog();
    const files = {
      folder: ofCell,
      log: join(ofCell, 'rows.csv'),
      split: join(ofCell, 'split.csv'),
    };
    const roled = await rolesOfStore(opened);
    writeCellFiles(files, set, log, roled);
    return writtenCell(files, log, roled);
  } finally {
    await opened.close();
  }
}

/** Ascending by row. */
export async function rolesOfStore(store: TaskStore): Promise<RoledRow[]> {
  const tasks = await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex));
  const roled = tasks.flatMap(({ taskIndex, supportRowCount, logRows }) => {
    const { key, split } = at(store.tasks, taskIndex);
    return Array.from(logRows, (_, place): RoledRow => {
      const part = place < supportRowCount ? 'support' : 'query';
      return { row: numberAt(logRows, place), task: key, role: `${split}-${part}` };
    });
  });
  return roled.sort((one, other) => one.row - other.row);
}
