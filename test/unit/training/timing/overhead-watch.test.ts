/** The advice on workers that cost more than they compute. */

import { describe, expect, it } from 'vitest';
import { OverheadWatch } from '../../../../coordinator/training/overhead/overhead-watch.js';
import { sentenceOf } from '../../../../shared/events/sentences.js';

const step = (fetch: number, compute: number, upload: number, queue: number) => ({
  phasesMs: {
    ...{ sample: 1, pack: 2, fetch, compute, upload, queue },
    ...{ aggregate: 1, optimise: 1, checkpoint: 0 },
  },
});

function watched(workerCount: number, steps: readonly ReturnType<typeof step>[]) {
  const watch = new OverheadWatch(workerCount);
  for (const each of steps) watch.note(each);
  return watch.found();
}

const times = <Value>(count: number, value: Value): Value[] => new Array<Value>(count).fill(value);

describe('the overhead of local workers', () => {
  it('is told where one process would compute in less time than was waited', () => {
    // 20 times 1 + 2 + 1 + 6 = 10 ms waited; two workers computed 2 ms each.
    const found = watched(2, [...times(3, step(0, 900, 0, 0)), ...times(20, step(1, 2, 1, 6))]);
    expect(found).toEqual({ workerCount: 2, waitedMs: 200, computeMs: 80 });
  });

  it('is not told where two workers computed nearly all the time', () => {
    expect(watched(2, times(40, step(1, 8, 1, 2)))).toBeNull();
  });

  it('is not told where what was fetched came beside computing', () => {
    expect(watched(1, times(40, step(9, 8, 9, 0)))).toBeNull();
  });

  it('is not told of a few outer steps', () => {
    expect(watched(2, times(22, step(1, 2, 1, 6)))).toBeNull();
  });

  it('is worded with the option that avoids it', () => {
    const found = { workerCount: 2, waitedMs: 12_300, computeMs: 7_100 };
    expect(sentenceOf({ kind: 'in-process-faster', ...found, epochMs: 0 })).toEqual({
      level: 'notice',
      text: 'outer steps waited 12.3 s for 2 workers, and one process would compute the same jobs in about 7.1 s: adding --in-process would be faster',
    });
  });
});
