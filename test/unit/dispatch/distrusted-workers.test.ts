/** A step with jobs that are computed twice, and a worker whose bits two others contradict. */

import { describe, expect, it } from 'vitest';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { stepScene, type Answer } from './step-scene.js';

const HONEST = 0;
const FALSE = 1;
const WORKERS = ['a', 'b', 'liar'];

const done = (worker: string, bits = HONEST): Answer => ({ state: 'done', worker, bits });

/** A step of one job that is computed twice, with the outcomes of its deliveries in turn. */
function recomputedScene(answers: readonly Answer[], workers = WORKERS) {
  return stepScene((delivery) => answers[delivery - 1] ?? { state: 'gone' }, workers, {
    recomputed: [0],
  });
}

const kindsOf = (events: readonly RunEvent[]): string[] =>
  events.map(({ kind }) => kind).filter((kind) => kind !== 'fingerprint-taken');

describe('a job that is computed again', () => {
  it.each([
    ['first', [done('liar', FALSE), done('a'), done('b')], ['liar', 'a']],
    ['second', [done('a'), done('liar', FALSE), done('b')], ['a', 'liar']],
  ])('has the result on which two workers agree if a liar is %s', async (_, answers, asked) => {
    const { results, events, excluded, health } = recomputedScene(answers);
    expect((await results()).map(({ result }) => result.worker)).toEqual(['b']);
    expect(kindsOf(events)).toEqual(['results-disagree', 'worker-distrusted']);
    expect(excluded).toEqual([[], asked.slice(0, 1), asked]);
    expect(health.isDistrusted('liar')).toBe(true);
  });

  it('waits for a third worker where two disagree, and names them', async () => {
    const answers: Answer[] = [done('liar', FALSE), done('a'), { state: 'open', holder: null }];
    const { results, events } = recomputedScene(answers, ['a', 'liar']);
    await expect(results()).rejects.toMatchObject({ kind: 'transient' });
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'results-disagree', workers: ['liar', 'a'] }),
    );
  });

  it('ends the run where three workers disagree', async () => {
    const { results } = recomputedScene([done('a'), done('b', FALSE), done('liar', 2)]);
    await expect(results()).rejects.toThrow('three workers gave three results of one job');
  });

  it('is not confirmed by the worker that computed it first', async () => {
    const { results } = recomputedScene([done('a'), done('a'), done('b')]);
    expect((await results()).map(({ result }) => result.worker)).toEqual(['b']);
  });

  it('counts at once where one worker is connected', async () => {
    const { results } = recomputedScene([done('a')], ['a']);
    expect(await results()).toHaveLength(1);
  });
});

it('uses no result of a worker that is distrusted', async () => {
  const answers = [done('liar'), done('b')];
  const { results, health } = stepScene((delivery) => answers[delivery - 1]!, WORKERS);
  health.distrust('liar', { outerStep: 0, jobIndex: 0 });
  expect((await results()).map(({ result }) => result.worker)).toEqual(['b']);
});
