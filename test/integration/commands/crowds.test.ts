/**
 * A run with crowds as a user calls it: trained, evaluated with and without their blocks, exported with what was evaluated, served,
 * and refreshed with a crowd that is new. Seen to fail: variances of a crowd's bias left out by the kernel.
 */

import { readFile } from 'node:fs/promises';
import { beforeAll, expect, test } from 'vitest';
import { parseReport } from '../../../coordinator/scoring/evaluation-report.js';
import { at } from '../../../shared/base/arrays.js';
import { readLabel } from '../../../shared/bundle/bundle-store.js';
import { readPublishedBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { CROWD_MODES } from '../../../shared/methods/inner-loop/personal-blocks.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { servedBundle } from '../../fixtures/serving/served-export.js';

const CONFIG = {
  ...{ run: 'crowds', seed: 3, output: 'out' },
  data: {
    ...{ logs: 'world.csv', store: 'store', task: 'adgroup', time: 'time' },
    label: { column: 'click' },
    features: ['age', 'category', 'crowd'].map((name) => ({ name, kind: 'category' })),
    rowSplit: { by: 'time' },
    taskSplit: { by: 'hash', validationShare: 0.3, testShare: 0.3 },
  },
  model: {
    ...{ kind: 'deepfm', embeddingWidth: 4, hiddenWidths: [8, 4], personal: ['bias', 'output'] },
  },
  method: { kind: 'posterior', crowd: 'crowd' },
  training: { outerSteps: 40, tasksPerOuterStep: 16, biasStart: 'click-rate' },
  evaluation: {
    arms: ['constant', 'meta-unadapted', 'meta-adapted', 'crowd-unadapted', 'crowd-adapted'],
    ...{ innerRates: [0.1], innerSteps: [3], bootstrapSamples: 100 },
  },
};

const room = openedOnce(commandRoom);
beforeAll(async () => {
  const world = ['--adgroups', '200', '--crowds', '30', '--crowd-deviation', '1.5'];
  const log = ['--rows', '40k', '--users', '2k', '--click-rate', '0.3', '--out', 'world.csv'];
  await room.done(['synthesize', ...world, ...log]);
  await room.write('run.yaml', JSON.stringify(CONFIG));
  for (const verb of ['prepare', 'train', 'evaluate']) await room.done([verb, 'run.yaml']);
});

async function latestBundle(): Promise<{ digest: string; bundle: LoadedBundle }> {
  const objects = new FileObjectStore({ folder: room.path('out/bundles') });
  const digest = (await readLabel(objects, 'latest'))!.bundle;
  await servedBundle(objects, digest);
  return { digest, bundle: await readPublishedBundle(objects, digest) };
}

const crowdsOf = ({ model }: LoadedBundle): Float32Array => model.dense.get(CROWD_MODES)!.values;

test('crowds pay where they differ, and a bundle scores as was evaluated', async () => {
  const path = room.path('out/evaluation.json');
  const { selection, slices } = parseReport(await readFile(path, 'utf8'), path);
  expect(selection.crowds?.serves).toBe('crowds');
  const lossOf = (arm: string): number =>
    at(slices, 0).arms.find((each) => each.arm === arm)!.metrics.logloss;
  expect(lossOf('crowd-adapted')).toBeLessThan(lossOf('meta-adapted'));
  expect(lossOf('crowd-adapted')).toBeLessThan(lossOf('crowd-unadapted'));
  const exported = await room.done(['export', 'run.yaml', '--format', 'json']);
  const { evaluatedDifferenceMax } = JSON.parse(exported) as { evaluatedDifferenceMax: number };
  expect(evaluatedDifferenceMax).toBeLessThan(1e-5);
  const { bundle } = await latestBundle();
  expect(crowdsOf(bundle).some((value) => Math.abs(value) > 0.2)).toBe(true);
});

test('what does not know crowds refuses', async () => {
  await room.refused(['bundle', 'convert', 'out/bundles', 'onnx', 'onnx'], {
    ...{ exitCode: 2, what: /blocks of crowds are not converted/, cure: /qianmo serve/ },
  });
  const training = ['refresh', 'run.yaml', '--logs', 'world.csv', '--outer-steps', '2'];
  await room.refused(training, {
    ...{ exitCode: 2, what: /do not fit another trunk/, cure: /leave out --outer-steps/ },
  });
  const file = 'out/crowd-blocks.safetensors';
  const blocks = await readFile(room.path(file));
  await room.write(file, 'damaged');
  await room.refused(['export', 'run.yaml', '--out', 'other'], {
    ...{ exitCode: 1, what: /not those that the evaluation chose/, cure: /evaluate the run again/ },
  });
  await room.write(file, blocks);
});

test('a refresh keeps the blocks of crowds, and a new crowd has that of unknown ones', async () => {
  const [header = '', ...rows] = (await readFile(room.path('world.csv'), 'utf8')).split('\n');
  const later = rows.slice(-40, -1).map((row) => row.replace(/\d+$/, '99'));
  await room.write('later.csv', `${[header, ...later].join('\n')}\n`);
  const before = crowdsOf((await latestBundle()).bundle);
  await room.done(['refresh', 'run.yaml', '--logs', 'later.csv']);
  const { bundle } = await latestBundle();
  const after = crowdsOf(bundle);
  const count = bundle.model.dense.get(CROWD_MODES)!.shape[1]!;
  expect([...after.subarray(0, before.length)]).toEqual([...before]);
  expect([...after.subarray(before.length)]).toEqual([...before.subarray(0, count)]);
});
