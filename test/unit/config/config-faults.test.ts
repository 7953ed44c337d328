/** Each error in a run config is reported with its path, the expected value and the value found. */

import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { parseConfig } from '../../../shared/config/yaml-file.js';
import { QianmoError } from '../../../shared/base/errors.js';

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

function failureOf(text: string): QianmoError {
  try {
    parseConfig(RUN_CONFIG, text, 'run.yaml');
  } catch (error) {
    if (error instanceof QianmoError) return error;
    throw error;
  }
  throw new Error('the config was accepted');
}

function faultsIn(change: (config: Record<string, unknown>) => void): string[] {
  const config = structuredClone<Record<string, unknown>>(GOOD);
  change(config);
  const { found } = failureOf(JSON.stringify(config)).report;
  return (found ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.trim());
}

const data = (part: Record<string, unknown>) => (config: Record<string, unknown>) =>
  void (config['data'] = { ...GOOD.data, ...part });
const set = (part: Record<string, unknown>) => (config: Record<string, unknown>) =>
  void Object.assign(config, part);

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
    expect(failureOf('run: a\n data: [\n').report).toMatchObject({
      kind: 'usage',
      where: 'run.yaml, line 1, column 6',
    });
    expect(failureOf('run: a\nrun: b\n').report).toMatchObject({
      where: 'run.yaml, line 2, column 1',
      found: 'a field that is given twice',
    });
    expect(failureOf('run: a\n---\nrun: b\n').report.found).toBe(
      'a second document: one file describes one run',
    );
  });

  it.each(['run: &a [*a]', '['.repeat(20_000)])('refuses %.20s', (text) => {
    expect(failureOf(text).report.kind).toBe('usage');
  });
});
