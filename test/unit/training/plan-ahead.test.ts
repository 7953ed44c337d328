import { describe, expect, it } from 'vitest';
import { planAhead } from '../../../coordinator/training/plan-ahead.js';

/** The numbers of results after which the next plan was wanted, by outer step. */
function wantedAfter(steps: readonly (readonly string[])[]): number[] {
  const wanted: number[] = [];
  let readCount = 0;
  let resultCount = 0;
  const ahead = planAhead({ readAhead: () => (readCount += 1) });
  for (const workers of steps) {
    readCount = 0;
    resultCount = 0;
    ahead.sent(workers.length);
    let first = readCount > 0 ? 0 : null;
    for (const worker of workers) {
      ahead.admitted({ worker });
      resultCount += 1;
      if (readCount > 0) first ??= resultCount;
    }
    wanted.push(first ?? -1);
  }
  return wanted;
}

describe('the plan of the next outer step', () => {
  it('is read when a worker has nothing left to do, as far as the step before tells', () => {
    const step = ['a', 'b', 'a', 'b', 'c', 'a', 'b', 'c'];
    // One job is open after 7 results, and two after 6, which three workers share.
    expect(wantedAfter([step, step])).toEqual([7, 6]);
  });

  it('is read at once where there are fewer jobs than workers', () => {
    expect(wantedAfter([['a', 'b', 'c', 'd'], ['a', 'b', 'c'], ['a']])).toEqual([3, 0, 0]);
  });
});
