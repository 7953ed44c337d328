// Configs that would keep the YAML parser busy, or use up its stack or memory, are refused.
import { describe, expect, it } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { parseRunConfig } from '../../../shared/config/load-run-config.js';

describe('a config that is no config', () => {
  it.each([
    ['deep lists', '['.repeat(20_000), /too long or too deeply nested/],
    ['deep sections', '{a: '.repeat(20_000), /too long or too deeply nested/],
    ['deep blocks', '- '.repeat(20_000), /too long or too deeply nested/],
    ['a value within itself', 'run: &a [*a]', /aliases/],
    [
      'aliases that multiply',
      ['a: &a [x, x, x, x, x, x, x, x, x]']
        .concat(
          'bcdefgh'.split('').map((name, place) => {
            const before = 'abcdefg'.charAt(place);
            return `${name}: &${name} [${Array.from({ length: 9 }, () => `*${before}`).join(', ')}]`;
          }),
        )
        .join('\n'),
      /aliases/,
    ],
  ])('%s', (_, yaml, message) => {
    expect(() => parseRunConfig(yaml, 'run.yaml')).toThrow(QianmoError);
    expect(() => parseRunConfig(yaml, 'run.yaml')).toThrow(message);
  });
});
