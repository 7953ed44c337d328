/** A step with jobs that are computed twice, and a worker whose bits two others contradict. */

import { describe, expect, it } from 'vitest';
import { FalseResultsError } from '../../../coordinator/dispatch/second-opinions.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { stepScene, type Answer } from './step-scene.js';

const HONEST = 0;
const FALSE = 1;
const WORKERS = ['a', 'b', 'liar'];

const done = (worker: string, bits = HONEST): Answer => ({ state: 'done', worker, bits });

/** Answers the deliveries of each job in turn. */
function inTurn(answersByJob: readonly (readonly Answer[])[]) {
  const left = answersByJob.map((answers) => [...answers]);
  return (_: number, { jobIndex }: { readonly jobIndex: number }): Answer => {
    const answer = left[jobIndex]?.shift();
    if (answer === undefined) throw new Error(`job ${jobIndex} has one delivery too many`);
    return answer;
  };
}

const kindsOf = (events: readonly RunEvent[]): string[] =>
  events.map(({ kind }) => kind).filter((kind) => kind !== 'fingerprint-taken');

const found = [done('a'), done('liar', FALSE), done('b')];

describe('a liar that is found by a job that was computed again', () => {
  it('is named, and the step ends if nothing else of it was used', async () => {
    const { results, events, excluded } = stepScene(inTurn([[done('b')], found]), WORKERS, {
      ...{ orderCount: 2, recomputed: [1] },
    });
    expect((await results()).map(({ result }) => result.worker)).toEqual(['b', 'a']);
    expect(kindsOf(events)).toEqual(['results-disagree', 'worker-distrusted']);
    expect(excluded).toEqual([[], [], ['a'], ['a', 'liar']]);
  });

  it('has its other results of the step dropped: the step is taken again', async () => {
    const { results, health } = stepScene(inTurn([[done('liar')], found]), WORKERS, {
      ...{ orderCount: 2, recomputed: [1] },
    });
    await expect(results()).rejects.toThrow(FalseResultsError);
    expect(health.distrusted).toEqual(['liar']);
  });

  it('has the step taken again if the result that was used is the false one', async () => {
    const answers = [done('liar', FALSE), done('a'), done('b')];
    const { results } = stepScene(inTurn([answers]), WORKERS, { recomputed: [0] });
    await expect(results()).rejects.toThrow(FalseResultsError);
  });

  it('has no result used from then on', async () => {
    const answers = [done('liar'), done('liar'), done('b')];
    const { results, health, events, excluded } = stepScene(inTurn([answers]), WORKERS);
    const found = { kind: 'worker-distrusted', outerStep: 0, jobIndex: 0, reason: 'x' } as const;
    health.distrust('liar', found);
    expect((await results()).map(({ result }) => result.worker)).toEqual(['b']);
    const refused = {
      ...{ kind: 'result-refused', outerStep: 0, jobIndex: 0 },
      ...{ fromWorker: 'liar', rejection: 'not_asked' },
    };
    expect(events.filter(({ kind }) => kind === 'result-refused')).toEqual([refused, refused]);
    expect(excluded).toEqual([['liar'], ['liar'], ['liar']]);
  });
});

describe('a step', () => {
  it('names the two workers that disagree if no third one decides in time', async () => {
    const answers: Answer[] = [done('liar', FALSE), done('a'), { state: 'open', holder: null }];
    const { results } = stepScene(inTurn([answers]), ['a', 'liar'], { recomputed: [0] });
    await expect(results()).rejects.toThrow('two workers disagree on job 0: liar, a');
  });
});

describe('a second opinion', () => {
  it('that is lost with its worker is done without, and nobody is quarantined for it', async () => {
    const lost: Answer = { state: 'failed', reason: 'worker-lost: gone', worker: 'b' };
    const answers = Array.from({ length: 4 }, () => [done('a'), lost]);
    const { results, quarantined, health, events } = stepScene(inTurn(answers), WORKERS, {
      ...{ orderCount: answers.length, recomputed: [...answers.keys()] },
    });
    expect(await results()).toHaveLength(answers.length);
    expect([quarantined, health.isAnySick]).toEqual([[], false]);
    expect(kindsOf(events)).toEqual(answers.map(() => 'job-not-recomputed'));
  });

  it('is not that of the worker that gave the first one', async () => {
    const answers = [done('a'), done('a'), done('b')];
    const { results, events } = stepScene(inTurn([answers]), WORKERS, { recomputed: [0] });
    expect(await results()).toHaveLength(1);
    expect(events.filter(({ kind }) => kind === 'result-refused')).toMatchObject([
      { fromWorker: 'a', rejection: 'not_asked' },
    ]);
  });
});
