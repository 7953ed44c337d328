import { expect, it } from 'vitest';
import { commonestReject } from '../../../coordinator/prepare/rejected-rows.js';
import { sentenceOf } from '../../../shared/events/run-events.js';
import { rowsRejected } from '../../../coordinator/prepare/prepare-messages.js';

const reasons = [
  'the task column "ad" is empty',
  'the column "Impr." holds "1,304", expected a count above 0',
  'the column "Impr." holds "2,000", expected a count above 0',
].map((reason) => ({ reason }));

it('the commonest reason is told with its first value and the number of rows alike', () => {
  const commonest = commonestReject(reasons);
  if (commonest === null) throw new Error('expected a reason');
  expect(commonest).toEqual({ reason: reasons[1]?.reason, rowCount: 2 });
  const told = (rowCount: number, found = commonest): string =>
    sentenceOf({ ...rowsRejected(rowCount, 'rejects.jsonl', found), epochMs: 0 }).text;
  expect(told(3)).toBe(
    '3 rows rejected, 2 of them alike: the column "Impr." holds "1,304", expected a count above 0; see rejects.jsonl in the store',
  );
  expect(told(1, { reason: 'the task column "ad" is empty', rowCount: 1 })).toBe(
    '1 row rejected: the task column "ad" is empty; see rejects.jsonl in the store',
  );
});

it('without rejected rows there is none', () => {
  expect(commonestReject([])).toBeNull();
});
