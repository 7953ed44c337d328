/** The average of a network that adapts nothing and one whose blocks are generated, as a run: trained, evaluated and exported. */

import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { averagedForm } from '../../../coordinator/sweep/averaged-model.js';
import { decodeTestLogits } from '../../../coordinator/scoring/test-logits.js';
import { at } from '../../../shared/base/arrays.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { loadConfig } from '../../../shared/config/yaml-file.js';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';

const ExportSchema = z.looseObject({ evaluatedDifferenceMax: z.number() });
const ENCODER = { kind: 'encoder', innerSteps: 0, linearWeights: false, rowWidth: 4, taskWidth: 3 };

let room: CommandRoom;
beforeAll(async () => {
  room = await commandRoom();
});
afterAll(() => room.remove());

async function logitsOf(file: string, arm: ArmName): Promise<Float32Array> {
  await room.done(['evaluate', file]);
  const { output } = await loadConfig(RUN_CONFIG, room.path(file));
  const bytes = await readFile(room.path(`${output}/test-logits.safetensors`));
  return decodeTestLogits(bytes, output).logits.get(arm) ?? new Float32Array();
}

it('has the mean of their outputs for adapted adgroups, and a bundle serves it', async () => {
  const member = (name: string, model: object, method: object): Promise<string> =>
    room.config(name, (config) => {
      const tower = { kind: 'deepfm', embeddingWidth: 3, hiddenWidths: [4], personal: [] };
      Object.assign(config, { model: { ...tower, ...model }, method });
      Object.assign(config.training, { outerSteps: 6 });
      const arms = ['global', 'meta-unadapted', 'meta-chosen'];
      Object.assign(config, { evaluation: { arms, innerRates: [0.1], innerSteps: [1] } });
    });
  const supportInputs = { clickRate: true, count: true };
  const personal = ['bias', 'adgroupEmbedding', 'output'];
  const files = [
    await member('global', { supportInputs }, { kind: 'global' }),
    await member('generated', { personal, adgroupEmbedding: true }, ENCODER),
  ];
  await room.done(['prepare', at(files, 0)]);
  for (const file of files) await room.done(['train', file]);
  const [global, generated] = [
    await logitsOf(at(files, 0), 'global'),
    await logitsOf(at(files, 1), 'meta-unadapted'),
  ];
  const configs = await Promise.all(files.map((file) => loadConfig(RUN_CONFIG, room.path(file))));
  const form = averagedForm(configs);
  expect(form).toMatchObject({ model: { embeddingWidth: 6, hiddenWidths: [8] } });
  const base = at(configs, 1);
  const training = {
    ...{ ...base.training, outerSteps: 0 },
    startFrom: { average: configs.map(({ output }) => output) },
  };
  const average = { ...base, ...form, training, run: 'average', output: 'average' };
  await room.write('average.yaml', JSON.stringify(average));
  await room.done(['train', 'average.yaml']);
  const found = await logitsOf('average.yaml', 'meta-unadapted');
  expect(found.length).toBeGreaterThan(20);
  // Evaluated with the other arms: it is the mean of the starts, without generated blocks.
  expect(await logitsOf('average.yaml', 'global')).not.toEqual(found);
  for (const [row, output] of found.entries())
    expect(output).toBeCloseTo((at(global, row) + at(generated, row)) / 2, 5);
  expect(found).not.toEqual(global);

  const exported = ['export', 'average.yaml', '--format', 'json'];
  const bundle = ExportSchema.parse(JSON.parse(await room.done(exported)));
  expect(bundle.evaluatedDifferenceMax).toBeLessThan(1e-5);
});
