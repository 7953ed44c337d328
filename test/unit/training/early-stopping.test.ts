/** Early stopping: which outer steps are scored, when training ends, what is kept, and that a resume changes nothing. */

import { describe, expect, it } from 'vitest';
import { readMetaParameters } from '../../../coordinator/checkpoints/checkpoint-reader.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { startedTraining } from '../../../coordinator/training/run-checkpoints.js';
import type { TrainOptions } from '../../../coordinator/training/train-options.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { checkpointsIn, overwrite } from '../../fixtures/stores/checkpoint-stores.js';
import { tinySpec, tinyState } from '../../fixtures/training-states.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import {
  logisticConfig,
  mapCheckpoints,
  stateDigest,
  tinyRun,
} from '../../fixtures/training/training-run.js';
import { codeOf } from '../../../test/fixtures/told.js';

const training = {
  ...{ outerSteps: 20, tasksPerOuterStep: 4, checkpointEveryOuterSteps: 5 },
  earlyStopping: { everyOuterSteps: 2, patience: 3 },
};

/** Gives the losses in turn. */
function losses(...given: number[]): () => Promise<number> {
  return () => {
    const loss = given.shift();
    if (loss === undefined) throw new Error('one score too many');
    return Promise.resolve(loss);
  };
}

describe('the bias at outer step 0', () => {
  const store = tinyTaskStore({ counts: true });
  const biasOf = async (section: object): Promise<number | undefined> => {
    const { options } = tinyRun(logisticConfig({ ...training, ...section }), {}, store);
    const { state } = await startedTraining(options);
    return state.metaParameters.dense.get('bias')?.values[0];
  };

  it('is 0, or the logit of the click rate of the training tasks', async () => {
    expect(await biasOf({})).toBe(0);
    let [clicks, impressions] = [0, 0];
    const train = store.tasks.filter(({ split }) => split === 'train');
    for (const rows of await store.readTasks(train.map(({ taskIndex }) => taskIndex)))
      for (let row = 0; row < rows.rowCount; row += 1) {
        clicks += rows.clicks[row] ?? NaN;
        impressions += rows.impressions[row] ?? NaN;
      }
    const logit = Math.log(clicks / (impressions - clicks));
    expect(await biasOf({ biasStart: 'click-rate' })).toBeCloseTo(logit, 5);
    expect(logit).not.toBeCloseTo(0, 1);
  });
});

describe('training that stops early', () => {
  it('ends when the loss has not fallen for as many scores as its patience', async () => {
    const { options, events } = tinyRun(logisticConfig(training));
    const outcome = await train({ ...options, validationLoss: losses(5, 4, 4, 4.5, 6) });
    expect(outcome.outerSteps).toBe(10);
    expect(outcome.state.validated).toEqual([
      { outerStep: 2, loss: 5 },
      { outerStep: 4, loss: 4 },
      { outerStep: 6, loss: 4 },
      { outerStep: 8, loss: 4.5 },
      { outerStep: 10, loss: 6 },
    ]);
    expect(events.filter((event) => codeOf(event) === 'run-stopped-early')).toMatchObject([
      {
        text: 'stopped at outer step 10 of 20: the validation loss has not fallen since 4',
      },
    ]);
    expect(events.flatMap((e) => (e.kind === 'run-validated' ? [e.isBest] : []))).toEqual([
      ...[true, true, false, false, false],
    ]);
  });

  it('takes the same steps and ends alike after a stop and a resume', async () => {
    const config = logisticConfig(training);
    const straight = await train({
      ...tinyRun(config).options,
      validationLoss: losses(5, 4, 4.1, 4.2, 4.3),
    });
    const checkpoints = mapCheckpoints();
    const first = tinyRun(config, { checkpoints, stopAtOuterStep: 7 });
    await train({ ...first.options, validationLoss: losses(5, 4, 4.1) });
    const rest = tinyRun(config, { checkpoints, resume: true });
    const resumed = await train({ ...rest.options, validationLoss: losses(4.2, 4.3) });
    expect(resumed.digest).toBe(straight.digest);
    expect(resumed.state.validated).toEqual(straight.state.validated);
    // A run that has ended early ends at once when it is resumed.
    const again = tinyRun(config, { checkpoints, resume: true });
    expect((await train({ ...again.options, validationLoss: losses() })).outerSteps).toBe(10);
  });

  it('goes back to the best parameters at a plateau and ends at the second one, with a resume between them', async () => {
    const config = logisticConfig({
      ...training,
      schedule: { decay: 'plateau', finalShare: 0.25 },
      earlyStopping: { everyOuterSteps: 2, patience: 2 },
    });
    const given = [5, 4, 4.1, 4.2, 3.9, 4, 4.3];
    const trained = async (
      [from, to]: readonly [number, number],
      store: MemoryObjectStore,
      departures: Parameters<typeof tinyRun>[1],
    ) => {
      const { options } = tinyRun(config, departures);
      const checkpoints = checkpointsIn(store, { spec: options.run.spec });
      const validationLoss = losses(...given.slice(from, to));
      return train({ ...options, checkpoints, validationLoss });
    };
    const straight = await trained([0, 7], new MemoryObjectStore(), {});
    expect(straight.outerSteps).toBe(14);
    const store = new MemoryObjectStore();
    const atPlateau = await trained([0, 4], store, { stopAtOuterStep: 8 });
    const best = await trained([0, 2], new MemoryObjectStore(), { stopAtOuterStep: 4 });
    expect(stateDigest(atPlateau.state).metaParameters).toBe(
      stateDigest(best.state).metaParameters,
    );
    expect(atPlateau.state).toMatchObject({ outerStep: 8, validated: [{}, {}, {}, {}] });
    await trained([4, 4], store, { stopAtOuterStep: 9, resume: true });
    const resumed = await trained([4, 7], store, { resume: true });
    expect(resumed.digest).toBe(straight.digest);
    expect(stateDigest(resumed.state)).toEqual(stateDigest(straight.state));
  });

  it('scores the outer step whose score was interrupted when it is resumed', async () => {
    const config = logisticConfig(training);
    const straight = await train({
      ...tinyRun(config).options,
      validationLoss: losses(5, 4, 4.1, 4.2, 4.3),
    });
    for (const [scored, left] of [
      [[5], [4, 4.1, 4.2, 4.3]],
      [[], [5, 4, 4.1, 4.2, 4.3]],
    ] as const) {
      const store = new MemoryObjectStore();
      const checkpointsOf = (spec: TrainOptions['run']['spec']) => checkpointsIn(store, { spec });
      const first = tinyRun(config).options;
      const given: number[] = [...scored];
      const interrupted = train({
        ...{ ...first, checkpoints: checkpointsOf(first.run.spec) },
        validationLoss: () => {
          const loss = given.shift();
          if (loss !== undefined) return Promise.resolve(loss);
          throw new QianmoError({ kind: 'interrupted', what: 'stopped while it is scored' });
        },
      });
      await expect(interrupted).rejects.toThrow(`${2 * scored.length + 2} of 20 is safe`);
      const rest = tinyRun(config, { resume: true }).options;
      const checkpoints = checkpointsOf(rest.run.spec);
      const resumed = await train({ ...rest, checkpoints, validationLoss: losses(...left) });
      expect(resumed.state.validated).toEqual(straight.state.validated);
      expect(resumed.metaParameters).toEqual(
        (await readMetaParameters(checkpoints.options))?.metaParameters,
      );
      expect(resumed.address).toMatch(/000000004-/);
    }
  });

  it('gives the parameters with the lowest loss, and those of evaluate and export', async () => {
    const config = logisticConfig(training);
    const { options } = tinyRun(config);
    const store = new MemoryObjectStore();
    const checkpoints = checkpointsIn(store, { spec: options.run.spec, kept: 1 });
    const scores = losses(5, 4, 4.1, 4.2, 4.3);
    const outcome = await train({ ...options, checkpoints, validationLoss: scores });
    const four = tinyRun(config, { stopAtOuterStep: 4 });
    const expected = await train({ ...four.options, validationLoss: losses(5, 4) });
    expect(outcome.metaParameters).toEqual(expected.metaParameters);
    expect(outcome.address).toMatch(/000000004-/);
    const saved = (await readMetaParameters(checkpoints.options))!;
    expect(saved).toMatchObject({ outerStep: 4, isChosen: true, digest: outcome.digest });
    // One checkpoint is kept beside the best one.
    const manifests = await store.list('manifests/');
    expect(manifests.map((key) => Number(key.slice(10, 19)))).toEqual([4, 10]);
  });
});

describe('the best checkpoint', () => {
  const stateAt = (outerStep: number) => tinyState(tinySpec(), outerStep);
  const scored = (outerStep: number, ...given: number[]) => ({
    ...stateAt(outerStep),
    validated: given.map((loss, index) => ({ outerStep: index + 1, loss })),
  });

  it('is the latest, with a warning, if it is damaged', async () => {
    const store = new MemoryObjectStore();
    const writer = checkpointsIn(store);
    await writer.write(scored(1, 1));
    await writer.write(scored(2, 1, 2));
    const [best = ''] = await store.list('manifests/');
    await overwrite(store, best, '{}');
    const reader = checkpointsIn(store);
    expect((await readMetaParameters(reader.options))!.outerStep).toBe(2);
    expect(reader.warnings.join()).toMatch(/is damaged|cannot be read/);
  });

  it('of a run that was started again is not taken by another', async () => {
    const store = new MemoryObjectStore();
    await checkpointsIn(store).write(scored(1, 1));
    const fresh = checkpointsIn(store, { kept: 1 });
    await fresh.write(stateAt(2));
    expect((await readMetaParameters(fresh.options))!.outerStep).toBe(2);
    expect(await store.list('manifests/')).toHaveLength(1);
  });
});
