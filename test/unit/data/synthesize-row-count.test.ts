import { describe, expect, it } from 'vitest';
import { parseRowCount } from '../../../coordinator/synthesize/row-count.js';
import { QianmoError } from '../../../shared/base/errors.js';

describe('parseRowCount', () => {
  it.each([
    ['250', 250],
    ['1_000_000', 1_000_000],
    ['760k', 760_000],
    ['10M', 10_000_000],
    ['10m', 10_000_000],
    ['1.1M', 1_100_000],
    ['0.5k', 500],
    ['2G', 2_000_000_000],
    ['2B', 2_000_000_000],
    [' 42 ', 42],
  ])('reads %s as %i', (text, rows) => {
    expect(parseRowCount(text)).toBe(rows);
  });

  it.each(['', '0', '-5', '1.5', '0.0001k', '10 M', '10MB', 'ten', '1e6', '11G', 'NaN'])(
    'refuses %j and says how to write it',
    (text) => {
      expect(() => parseRowCount(text)).toThrow(QianmoError);
      try {
        parseRowCount(text);
      } catch (error) {
        expect(error).toMatchObject({ kind: 'usage', report: { found: JSON.stringify(text) } });
      }
    },
  );
});
