import { describe, expect, it } from 'vitest';
import { WorkerPace } from '../../../coordinator/training/step-pipeline.js';

/** The numbers of results, by outer step, after which the next plan was wanted first. */
async function wantedAfter(steps: readonly (readonly string[])[]): Promise<number[]> {
  const moments: number[] = [];
  let arrivedCount = 0;
  const pace = new WorkerPace();
  const wanted: number[] = [];
  for (const workers of steps) {
    moments.length = 0;
    arrivedCount = 0;
    const results = async function* () {
      for (const worker of workers) {
        arrivedCount += 1;
        yield await Promise.resolve({ result: { worker, jobIndex: 0, computeMs: 1 } });
      }
    };
    const handedOn: string[] = [];
    const costs = workers.map(() => 1);
    const readAhead = (): void => void moments.push(arrivedCount);
    for await (const { result } of pace.noting(results(), costs, readAhead))
      handedOn.push(result.worker);
    expect(handedOn).toEqual(workers);
    wanted.push(moments[0] ?? -1);
  }
  return wanted;
}

describe('the plan of the next outer step', () => {
  it('is read when every worker has its last job, as far as the step before tells', async () => {
    const step = ['a', 'b', 'a', 'b', 'c', 'a', 'b', 'c'];
    // One job is open after 7 results, and three after 5, which three workers share.
    expect(await wantedAfter([step, step])).toEqual([7, 5]);
  });

  it('is read at once where there are no more jobs than workers', async () => {
    expect(await wantedAfter([['a', 'b', 'c', 'd'], ['a', 'b', 'c', 'd'], ['a']])).toEqual([
      3, 0, 0,
    ]);
  });
});
