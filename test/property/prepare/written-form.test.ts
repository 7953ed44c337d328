/** `strptime` of the subset gives what DuckDB gives within TRY(...), on random forms and on texts that almost have them. */

import { expect, test } from 'vitest';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { textOfValue } from '../../../shared/features/expressions/casts.js';
import { compileExpression } from '../../../shared/features/expressions/compile-expression.js';
import { withDuckDb } from '../../fixtures/duckdb-for-test.js';
import { pick } from '../../fixtures/odd-values.js';
import { createTypedTable } from '../../fixtures/typed-log.js';

const FORM_COUNT = 400;
const TEXTS_PER_FORM = 40;
const COLUMNS = { t: { log: 'typed', type: 'VARCHAR' } } as const;

const DATES = [
  '%d.%m.%Y',
  '%-d/%-m/%Y',
  '%m/%d/%y',
  '%Y%m%d',
  '%d-%b-%Y',
  '%B %d, %Y',
  '%Y',
  '%d %m',
];
const CLOCKS = ['', ' %H:%M', ' %H:%M:%S', 'T%H.%M', '  %I:%M %p', ' %-I%p', '%H%M', ' um %H Uhr'];

function formOf(stream: RandomStream): string {
  const form = `${pick(stream, DATES)}${pick(stream, CLOCKS)}`;
  return stream.below(10) === 0 ? `${pick(stream, [' ', '(', 'é', '^'])}${form}` : form;
}

/** Mostly a text of the form, with a character changed, doubled or left out in one of two. */
function textOf(stream: RandomStream, form: string): string {
  const number = (max: number): string => {
    const value = String(stream.below(max));
    return stream.below(3) === 0 ? value : value.padStart(2, '0');
  };
  const values: Record<string, () => string> = {
    ...{ d: () => number(33), m: () => number(14), y: () => number(100), H: () => number(26) },
    ...{ I: () => number(14), M: () => number(62), S: () => number(62) },
    Y: () => pick(stream, ['2026', '1999', '2024', '0', '26', '10000', '0001']),
    b: () => pick(stream, ['Jan', 'feb', 'MAY', 'Sept', 'Dec', 'x']),
    B: () => pick(stream, ['January', 'may', 'SEPTEMBER', 'Dec']),
    p: () => pick(stream, ['AM', 'pm', 'Pm', 'p']),
  };
  const text = form.replaceAll(/%-?(.)/g, (_part, letter: string) => values[letter]?.() ?? '');
  if (stream.below(2) === 0) return text;
  const at = stream.below(text.length + 1);
  const changed = pick(stream, ['', ' ', '1', text.slice(at, at + 1).repeat(2), '\t', '.', 'é']);
  return text.slice(0, at) + changed + text.slice(at + stream.below(2));
}

test('strptime of random forms', async () => {
  const stream = randomStream(3, 'written forms');
  const differences: string[] = [];
  let readCount = 0;
  await withDuckDb(async (connection) => {
    for (let done = 0; done < FORM_COUNT; done += 1) {
      const form = formOf(stream);
      const rows = Array.from({ length: TEXTS_PER_FORM }, () => ({ t: textOf(stream, form) }));
      await createTypedTable(connection, 'log', { t: 'VARCHAR' }, rows);
      const sql = `strptime(t, '${form}')`;
      const reader = await connection.runAndReadAll(`SELECT CAST(TRY(${sql}) AS VARCHAR) FROM log`);
      const found = reader.getRows().map(([text]) => text);
      const compiled = compileExpression(sql, COLUMNS);
      if (!compiled.isComputed) throw new Error(`${sql}: ${compiled.reason}`);
      for (const [index, row] of rows.entries()) {
        const value = compiled.evaluate(row);
        const ours = value === null ? null : textOfValue(compiled.type, value);
        readCount += ours === null ? 0 : 1;
        if (ours !== found[index])
          differences.push(`${sql} of "${row.t}": ${String(found[index])}, ours ${String(ours)}`);
      }
    }
  });
  expect(differences.slice(0, 10)).toEqual([]);
  // Most texts must not have been refused.
  expect(readCount).toBeGreaterThan((FORM_COUNT * TEXTS_PER_FORM) / 4);
});

test('a form with a part that is not read here is left to DuckDB', () => {
  const reasonOf = (form: string): string => {
    const compiled = compileExpression(`strptime(t, '${form}')`, COLUMNS);
    return compiled.isComputed ? '' : compiled.reason;
  };
  expect(reasonOf('%d.%m.%Y %f')).toContain('"%f" in a form of strptime');
  expect(reasonOf('%d.%m.%Y %d')).toContain('"%d" in a form of strptime');
  expect(reasonOf('100 %')).toContain('"%" in a form of strptime');
  expect(reasonOf('%-Y')).toContain('"%-Y" in a form of strptime');
});
