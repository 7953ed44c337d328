/**
 * The folder structure as drawn from imports: which folder may import which. Each folder is a room;
 * a folder and its subfolder are two.
 */

import { dirname } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cyclesOf, importedFiles, production, sources } from './sources.js';

const TOP_LEVEL_DIRECTIONS: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  coordinator: ['shared'],
  worker: ['shared'],
  infra: ['shared', 'coordinator', 'worker'],
  test: ['shared', 'coordinator', 'worker', 'infra'],
};

/** A folder may import the folders before it in the list of its top-level folder. */
const FOLDERS_IN_ORDER: Readonly<Record<string, readonly string[]>> = {
  shared: [
    'shared/base',
    'shared/names',
    'shared/network',
    'shared/tensors',
    'shared/storage',
    'shared/metrics',
    'shared/events',
    'shared/tasks',
    'shared/methods/inner-loop',
    'shared/methods',
    'shared/models/kinds',
    'shared/models',
    'shared/sums',
    'shared/plugins',
    'shared/config',
    'shared/features',
    'shared/queue',
    'shared/bundle',
  ],
  coordinator: [
    'coordinator/scoring',
    'coordinator/dispatch',
    'coordinator/plan',
    'coordinator/checkpoints',
    'coordinator/training',
    'coordinator/evaluation',
    'coordinator/export',
    'coordinator/sweep',
    'coordinator/logs',
    'coordinator/prepare',
    'coordinator/propose',
    'coordinator/synthesize',
    'coordinator/record',
    'coordinator/tracking',
    'coordinator/reports/document',
    'coordinator/reports',
    'coordinator/dashboard',
    'coordinator/runs',
  ],
  worker: [
    'worker/serving/state',
    'worker/serving/exploration',
    'worker/serving',
    'worker/serving/interchange',
    'worker/serving/server',
    'worker/serving/loading',
    'worker/serving/processes',
    'worker/serving/server/endpoints',
    'worker/compute/engine',
    'worker/compute/engine/rewrite',
    'worker/compute/engine/capture',
    'worker/compute/device',
    'worker/compute/models',
    'worker/compute/meta-gradients',
    'worker/process',
    'worker/compute/job',
    'worker/carrying',
    'worker',
  ],
};

const imports = sources.flatMap((source) =>
  importedFiles(source).map((target) => ({ from: source.path, target })),
);

function topOf(path: string): string {
  return path.split('/')[0] ?? '';
}

describe('rooms', () => {
  test('the five top-level folders import one way', () => {
    const offences = imports
      .filter(({ from, target }) => topOf(from) !== topOf(target))
      .filter(({ from, target }) => !TOP_LEVEL_DIRECTIONS[topOf(from)]?.includes(topOf(target)))
      .map(({ from, target }) => `${from} imports ${target}: move the contract to shared/`);
    expect(offences).toEqual([]);
  });

  test('every folder is listed in the order', () => {
    const placed = new Set(Object.values(FOLDERS_IN_ORDER).flat());
    const folders = new Set(production.map(({ path }) => dirname(path)));
    expect([...folders].filter((folder) => !placed.has(folder))).toEqual([]);
  });

  test('a folder imports only folders before it in the order', () => {
    const offences = imports
      .filter(({ from, target }) => topOf(from) === topOf(target))
      .filter(({ from, target }) => {
        const order = FOLDERS_IN_ORDER[topOf(from)] ?? [];
        return order.indexOf(dirname(target)) > order.indexOf(dirname(from));
      })
      .map(({ from, target }) => `${from} imports ${target}, whose folder comes later`);
    expect(offences).toEqual([]);
  });

  test('there is no import cycle between folders', () => {
    const graph = new Map<string, string[]>();
    for (const { from, target } of imports) {
      const [folder, imported] = [dirname(from), dirname(target)];
      if (folder !== imported) graph.set(folder, [...(graph.get(folder) ?? []), imported]);
    }
    expect(cyclesOf(graph)).toEqual([]);
  });
});
