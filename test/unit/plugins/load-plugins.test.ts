// A plugin adds one method or model under its own kind. Errors in a plugin are reported with its
// path.

import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { QianmoError, FailureReport } from '../../../shared/base/errors.js';
import { openedOnce } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const folder = openedOnce(temporaryFolder);
// Registries belong to the process, so each test starts with new ones.
beforeEach(() => vi.resetModules());

const fresh = {
  loader: () => import('../../../shared/plugins/load-plugins.js'),
  methods: () => import('../../../shared/methods/methods.js'),
  models: () => import('../../../shared/models/model-config.js'),
  missing: () => import('../../../shared/plugins/missing-plugin.js'),
};

const METHOD = `
import { defineMethod, innerLoopSettings, z } from 'qianmo/plugin';
export default defineMethod({
  settings: z.strictObject({
    kind: z.literal('own-method'),
    ...innerLoopSettings,
    pull: z.number().default(0.5),
  }),
  planOf: () => ({}),
});
`;
const MODEL = `
import { defineModel, z } from 'qianmo/plugin';
export default defineModel({
  kind: 'own-model',
  options: { temperature: z.number().positive().optional() },
  linear: 'always',
  hasFactors: false,
  hasHiddenLayers: false,
  blocks: () => [],
  variables: () => [],
  forward: (frame) => frame.linear(),
});
`;

async function file(name: string, source: string): Promise<string> {
  const path = join(folder.path, name);
  await writeFile(path, source);
  return path;
}

function sha256(source: string): string {
  return createHash('sha256').update(source).digest('hex');
}

async function failure(source: string): Promise<FailureReport> {
  const { loadPlugins } = await fresh.loader();
  const path = await file('faulty.js', source);
  const error: unknown = await loadPlugins([path]).catch((thrown: unknown) => thrown);
  // The error class of the newly loaded modules.
  const { report } = error as QianmoError;
  expect(report).toMatchObject({ kind: 'usage', where: path });
  return report;
}

describe('a plugin', () => {
  it('adds a method, whose parsed settings name its content', async () => {
    const path = await file('method.js', METHOD);
    const { loadPlugins, loadedPlugins, pluginArguments } = await fresh.loader();
    await loadPlugins([path]);
    await loadPlugins([path]);
    const { MethodConfigSchema } = await fresh.methods();
    const digest = sha256(METHOD);
    expect(MethodConfigSchema.parse({ kind: 'own-method', innerSteps: 2 })).toMatchObject({
      ...{ kind: 'own-method', innerSteps: 2, pull: 0.5, plugin: digest },
    });
    expect(MethodConfigSchema.parse({ kind: 'fomaml' })).not.toHaveProperty('plugin');
    const { error } = MethodConfigSchema.safeParse({ kind: 'own-method', plugin: 'ab' });
    expect(error?.issues[0]?.message).toBe(
      `the config was made with another content of the plugin: ${path} has SHA-256 ${digest}, the config says ab`,
    );
    expect(loadedPlugins()).toEqual([{ path, sha256: digest }]);
    expect(pluginArguments()).toEqual(['--plugin', `${digest}:${path}`]);
  });

  it('adds a model with its own options, which other models refuse', async () => {
    const path = await file('model.js', MODEL);
    await (await fresh.loader()).loadPlugins([path]);
    const { ModelConfigSchema } = await fresh.models();
    const digest = sha256(MODEL);
    const own = { kind: 'own-model', hiddenWidths: [], temperature: 2 };
    const parsed = ModelConfigSchema.parse(own);
    expect(parsed).toMatchObject({ ...own, plugin: digest });
    // A job carries the parsed section, and a worker parses it again.
    expect(ModelConfigSchema.parse(parsed)).toEqual(parsed);
    const issues = (model: unknown): string[] =>
      ModelConfigSchema.safeParse(model).error?.issues.map(
        ({ path: at, message }) => `${at.join('.')}: ${message}`,
      ) ?? [];
    expect(issues({ temperature: 2 })).toEqual([
      'temperature: deepfm has no such option; it is one of own-model',
    ]);
    expect(issues({ ...own, plugin: 'ab' }).join()).toContain('another content of the plugin');
    expect(issues({ plugin: digest })).toEqual(['plugin: deepfm is built in: leave plugin out']);
  });

  it('is required by the jobs that name it', async () => {
    const path = await file('method.js', METHOD);
    const { missingPluginOf } = await fresh.missing();
    const job = (plugin?: string): unknown => ({
      model: { kind: 'deepfm' },
      work: { kind: 'gradient', method: { kind: 'own-method', plugin } },
    });
    expect(missingPluginOf(job('ab'))).toMatch(
      /^the job needs the plugin that defines the method own-method, SHA-256 ab, and this worker was started without it/,
    );
    await (await fresh.loader()).loadPlugins([path]);
    expect(missingPluginOf(job(sha256(METHOD)))).toBeNull();
    expect(missingPluginOf(job('ab'))).toContain('another content of it, SHA-256');
    expect(missingPluginOf(job())).toBeNull();
    expect(missingPluginOf({ model: { kind: 'own-model', plugin: 'cd' } })).toContain(
      'the model own-model, SHA-256 cd',
    );
    expect(missingPluginOf('no job')).toBeNull();
  });
});

describe('a faulty plugin', () => {
  it.each<[string, string, Partial<FailureReport>]>([
    [
      'that is no JavaScript',
      'export default {',
      { what: 'a plugin does not load', found: expect.stringContaining('SyntaxError') as string },
    ],
    [
      'that imports a file',
      "import { x } from './other.js';\nexport default x;",
      { found: "it has the import from './other.js'" },
    ],
    ['without default export', 'export const x = 1;', { found: 'no object as default export' }],
    [
      'whose settings are not strict',
      METHOD.replace('strictObject', 'object'),
      { found: 'a method with faults: settings: expected z.strictObject, not z.object' },
    ],
    [
      'whose kind is built in',
      METHOD.replace('own-method', 'fomaml'),
      { what: 'the method fomaml is defined twice', found: 'fomaml is built in' },
    ],
    [
      'whose option means something else elsewhere',
      MODEL.replace('temperature', 'crossRank'),
      { what: 'the model own-model redefines an option', found: 'crossRank, an option of dcn-v2' },
    ],
  ])('%s', async (_, source, expected) => {
    expect(await failure(source)).toMatchObject(expected);
  });

  it('that comes after the first config', async () => {
    const { MethodConfigSchema } = await fresh.methods();
    MethodConfigSchema.parse({ kind: 'fomaml' });
    expect(await failure(METHOD)).toMatchObject({ what: 'a plugin was loaded too late' });
  });
});
