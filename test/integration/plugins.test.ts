/**
 * The example plugin as a researcher uses it: in process and on workers, refused by a worker that
 * was started without it, and never changed within a run. Real processes, a real Redis.
 */

import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { commandRoom, expectFailure } from '../fixtures/commands/command-room.js';
import { codeBlocks, pageAt } from '../fixtures/documentation/markdown-page.js';
import { smallRun } from '../fixtures/commands/small-run.js';
import { openedOnce } from '../fixtures/opened.js';
import { serveCommand } from '../fixtures/serving/served-command.js';
import { redisForTest } from '../fixtures/queue/redis-for-test.js';

const OUTER_STEPS = 8;
const METHOD = { kind: 'maml', innerSteps: 2, innerRate: 0.5, stepNormMax: 0.05 };
const MODEL = `
import { defineModel, FIELD_OPTIONS, outputLayer, z } from 'qianmo/plugin';
export default defineModel({
  kind: 'scaled-pairs',
  options: { factorisedFields: FIELD_OPTIONS.factorisedFields, scale: z.number().optional() },
  linear: 'by-default',
  hasFactors: true,
  hasHiddenLayers: false,
  weighsPairs: () => true,
  blocks: () => ['output'],
  variables: (_, { factorisedPlaces: { length } }) => [outputLayer((length * (length - 1)) / 2)],
  forward: (frame) => {
    const pairs = frame.outputTerm(frame.innerProducts());
    const scaled = frame.apply('scaled', [pairs], (x) => frame.tf.mul(x, frame.options.scale ?? 1));
    return [...frame.linear(), scaled];
  },
});
`;

const room = openedOnce(() => commandRoom('own process'));
const redis = openedOnce(redisForTest);
let source: string;
let inProcess: string;

beforeAll(async () => {
  source = await readFile('infra/examples/methods/maml.js', 'utf8');
  await room.write('maml.js', source);
  await room.write('scaled-pairs.js', MODEL);
  const run = await configFor('in-process');
  await room.done(['prepare', run, '--plugin', 'maml.js']);
  inProcess = await trained(run, '--plugin', 'maml.js');
});

/** A config file that trains the method of the example. */
function configFor(name: string, changed: Record<string, unknown> = {}): Promise<string> {
  return room.config(name, (config) => {
    Object.assign(config, { training: smallRun(name, OUTER_STEPS).training, method: METHOD });
    Object.assign(config, changed);
  });
}

function digestIn(output: string): string {
  return (JSON.parse(output) as { digest: string }).digest;
}

async function trained(run: string, ...options: string[]): Promise<string> {
  return digestIn(await room.done(['train', run, '--format', 'json', ...options]));
}

describe('a method from a plugin', () => {
  it('gives the same digest in process and on two workers, and clips', async () => {
    const twoWorkers = await configFor('two-workers');
    const digest = await trained(twoWorkers, '--workers', '2', '--plugin', 'maml.js');
    expect(digest).toBe(inProcess);
    const unclipped = await configFor('unclipped', {
      method: { ...METHOD, stepNormMax: undefined },
    });
    const other = await trained(unclipped, '--plugin', 'maml.js');
    expect(other).not.toBe(inProcess);
  });

  it('is refused by a worker without it, which leaves the jobs to a worker that has it', async () => {
    const run = await configFor('left-to-others');
    const queue = ['--redis', redis.url];
    const work = ['worker', ...queue, '--prefix', '{left-to-others}'];
    const training = room.start([
      ...['train', run, '--format', 'json', ...queue],
      ...['--plugin', 'maml.js'],
    ]);
    const without = room.start([...work, '--name', 'without']);
    await training.saw(
      /worker without refuses .*the job needs the plugin that defines the method maml/,
    );
    await room.write('other.js', `${source}// another content\n`);
    const other = room.start([...work, '--name', 'other', '--plugin', 'other.js']);
    await training.saw(/worker other refuses .*another content of it/);
    const able = room.start([...work, '--name', 'able', '--plugin', 'maml.js']);
    const ended = await training.ended;
    expect(ended.exitCode, ended.diagnostics).toBe(0);
    expect(digestIn(ended.output)).toBe(inProcess);
    for (const worker of [without, other, able]) {
      worker.signal('SIGTERM');
      await worker.ended;
    }
  });

  it('does not change within a run', async () => {
    await room.write('changed.js', `${source}// another content\n`);
    await room.refused(['train', 'in-process.yaml', '--resume', '--plugin', 'changed.js'], {
      exitCode: 2,
      what: /^the checkpoint was made with another config/,
      found: /method\.plugin: "[0-9a-f]{64}" -> "[0-9a-f]{64}"/,
      cure: /^give --plugin the file that the run started with/,
    });
  });

  it('is served, in one process and in two', async () => {
    const plugin = ['--plugin', 'maml.js'];
    await room.done(['evaluate', 'in-process.yaml', ...plugin]);
    await room.done(['export', 'in-process.yaml', '--out', 'bundles', ...plugin]);
    for (const processes of ['1', '2']) {
      const options = ['--processes', processes, ...plugin];
      await (await serveCommand(room.folder, 'bundles', options)).stop();
    }
    await room.refused(['serve', '--bundle', 'bundles', '--port', '0'], {
      exitCode: 1,
      what: /^the manifest of a bundle cannot be read/,
      found: /method\.kind/,
      cure: /^name the plugin/,
    });
  });

  it('is unknown to a process that did not load it', async () => {
    await room.refused(['train', 'in-process.yaml', '--resume'], {
      exitCode: 2,
      what: /run config/,
      found: /method\.kind: expected one of fomaml, .*global, found "maml"/,
      cure: /./,
    });
    const failed = await room.start(['check', 'in-process.yaml', '--plugin', 'none.js']).ended;
    expectFailure(failed, {
      exitCode: 2,
      what: /^a plugin does not load/,
      where: /none\.js$/,
      found: /^the file cannot be read/,
      cure: /./,
    });
  });
});

it('the method of the README and a model from a plugin train together and are evaluated like any other', async () => {
  const [method = ''] = codeBlocks(pageAt('README.md'), 'js');
  await room.write('clipped.js', method);
  const model = { kind: 'scaled-pairs', embeddingWidth: 4, hiddenWidths: [], scale: 2 };
  const run = await configFor('scaled', {
    model: { ...model, personal: ['bias', 'output'] },
    method: { kind: 'clipped', innerSteps: 2 },
  });
  const plugins = ['--plugin', 'clipped.js', '--plugin', 'scaled-pairs.js'];
  await trained(run, ...plugins);
  await room.done(['evaluate', run, ...plugins]);
});
