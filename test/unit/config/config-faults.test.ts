/** Each error in a run config is reported with its path, the expected value and the value found. */

import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { RUN_CONFIG, runConfigYaml } from '../../../shared/config/load-run-config.js';
import { parseConfig } from '../../../shared/config/yaml-file.js';
import type { FailureReport } from '../../../shared/base/errors.js';
import { refusalOf } from '../../fixtures/failures.js';

const GOOD = {
  run: 'faults',
  seed: 1,
  data: {
    logs: 'log.csv',
    store: 'store',
    task: 'ad',
    label: { column: 'clicked' },
    features: [{ name: 'site', kind: 'category' }],
  },
  output: 'out',
};

function faultOf(text: string): FailureReport {
  return refusalOf(() => parseConfig(RUN_CONFIG, text, 'run.yaml')).report;
}

function faultsIn(change: (config: Record<string, unknown>) => void): string[] {
  const config = structuredClone<Record<string, unknown>>(GOOD);
  change(config);
  const { found } = faultOf(JSON.stringify(config));
  return (found ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.trim());
}

const data = (part: Record<string, unknown>) => (config: Record<string, unknown>) =>
  void (config['data'] = { ...GOOD.data, ...part });
const set = (part: Record<string, unknown>) => (config: Record<string, unknown>) =>
  void Object.assign(config, part);

it.each(['1.1', '1.2'] as const)('a written run config reads the same with YAML %s', (version) => {
  const config = parseConfig(RUN_CONFIG, JSON.stringify(GOOD), 'run.yaml');
  const read: unknown = parse(runConfigYaml(config, 'written'), { version });
  expect(RUN_CONFIG.check(read, 'run.yaml')).toEqual(config);
});

describe('a run config with errors', () => {
  it.each<[string, (config: Record<string, unknown>) => void, string[]]>([
    [
      'a missing field',
      data({ logs: undefined }),
      ['data.logs: is missing; expected a path or a list of paths'],
    ],
    [
      'an inner loop with nothing to adapt',
      set({ model: { personal: [] }, method: { kind: 'fomaml' } }),
      [
        'method.kind: nothing adapts: name blocks in model.personal, or take global, which adapts nothing',
      ],
    ],
    [
      'a prior deviation of a variable',
      set({ method: { kind: 'posterior', priorDeviation: { 'bias.weight': 2 } } }),
      ['method.priorDeviation.bias.weight: there is no such personal block; they are bias'],
    ],
    [
      'crowds that are no category with a dictionary, of values',
      (config) => {
        const features = [
          { name: 'city', kind: 'category' },
          { name: 'user', kind: 'category', hashBuckets: 100 },
        ];
        data({ features, label: { value: 'price' } })(config);
        set({ method: { kind: 'posterior', crowd: 'user' } })(config);
      },
      [
        'method.crowd: is no category with a dictionary of its values; expected one of city',
        'method.crowd: needs clicks as data.label: crowds of values, and of segments with labels of their own, are not fitted yet',
      ],
    ],
    [
      'an unknown field near a known one',
      set({ training: { optimzer: {} } }),
      ['training.optimzer: there is no such field; did you mean "optimizer"?'],
    ],
    [
      'a feature that YAML has cut at a comma',
      data({ features: [parse('{ name: a, kind: category, expression: coalesce(a, b) }')] }),
      [
        'data.features.0: a comma within { } ends a value, and the rest of it is no field: put the whole value into quotes',
      ],
    ],
    // Seen to fail: both were said to be the rest of a value.
    [
      'unknown fields without a value in other letters, and with a dot',
      set({ model: { 特征: null, 'wide.weights': null } }),
      [
        expect.stringMatching(/^model\.特征: there is no such field; /) as string,
        expect.stringMatching(/^model\.wide\.weights: there is no such field; /) as string,
      ],
    ],
    [
      'a kind that is not',
      data({ features: [{ name: 'a', kind: 'text' }] }),
      ['data.features.0.kind: expected one of category, bag, number, found "text"'],
    ],
    [
      'text for a number',
      set({ training: { outerSteps: 'many' } }),
      ['training.outerSteps: expected a number, found "many"'],
    ],
    ['a number below its bound', set({ seed: -1 }), ['seed: expected at least 0, found -1']],
    [
      'an address of a kind that is not known',
      data({ store: 'ftp://there' }),
      ['data.store: expected a path, file://path or s3://bucket/prefix, found "ftp://there"'],
    ],
    [
      'several at once',
      set({ seed: 'x', sed: 1 }),
      ['seed: expected a number, found "x"', 'sed: there is no such field; did you mean "seed"?'],
    ],
  ])('%s', (_, change, expected) => {
    expect(faultsIn(change)).toEqual(expected);
  });

  it('reports where and why a text is not YAML', () => {
    expect(faultOf('run: a\n data: [\n')).toMatchObject({
      kind: 'usage',
      where: 'run.yaml, line 1, column 6',
    });
    expect(faultOf('run: a\nrun: b\n')).toMatchObject({
      where: 'run.yaml, line 2, column 1',
      found: 'a field that is given twice',
    });
    expect(faultOf('run: a\n---\nrun: b\n').found).toBe(
      'a second document: one file describes one run',
    );
  });

  it.each(['run: &a [*a]', '['.repeat(20_000)])('refuses %.20s', (text) => {
    expect(faultOf(text).kind).toBe('usage');
  });
});
