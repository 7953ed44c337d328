/**
 * Orders to a run in virtual time: the production coordinator, workers and commands over the queue in memory.
 * Whatever is ordered and when, the meta-parameters are those of an undisturbed run of the same length.
 */

import { describe, expect, it } from 'vitest';
import { createQueueDispatcher } from '../../coordinator/dispatch/queue-dispatcher.js';
import { ORDERS, extension } from '../../coordinator/runs/control-run.js';
import { train } from '../../coordinator/training/outer-loop.js';
import { isInterruption } from '../../shared/base/errors.js';
import { randomStream } from '../../shared/base/random.js';
import { RunFencedError, type LeaseHolder } from '../../shared/storage/lease.js';
import { queueConfig } from '../fixtures/queue/queue-under-test.js';
import { logisticConfig, tinyRun } from '../fixtures/training/training-run.js';
import {
  config,
  ControlScene,
  expectEqual,
  RUN,
  store,
  training,
  undisturbed,
} from './control-scene.js';
const HOUR_MS = 3_600_000;

function holderOf(start: string): LeaseHolder {
  return {
    ...{ start, sinceMs: 0, beatMs: 0 },
    process: { host: 'gone', boot: 'b', pidNamespace: 'n', pid: 1, startTicks: '1' },
  };
}

describe('pause and resume', () => {
  it('let a step end, send no job meanwhile, and change no bit', async () => {
    const scene = new ControlScene();
    const outcome = await scene.run(async () => {
      const trained = scene.train(config);
      await scene.sawStep(3);
      expect(await scene.order(ORDERS.pause)).toMatchObject({ run: RUN, state: 'pausing' });
      await scene.saw('run-paused');
      await scene.clock.sleep(10_000);
      const { clock, jobStartsMs } = scene;
      const jobCount = jobStartsMs.length;
      // A checkpoint keeps what is complete while the pause lasts.
      const complete = Math.max(...scene.checkpoints.states.keys());
      expect(jobCount).toBe(scene.countedJobs());
      expect(await scene.order(ORDERS.pause)).toMatchObject({
        ...{ state: 'paused', outerStep: complete, outerSteps: 12 },
      });
      await clock.sleep(HOUR_MS);
      expect(jobStartsMs).toHaveLength(jobCount);
      expect(await scene.order(ORDERS.resume)).toMatchObject({ state: 'running' });
      return trained;
    });
    expectEqual(outcome, await undisturbed());
    expect(scene.kinds().filter((kind) => /paused|resumed/.test(kind))).toEqual([
      'run-paused',
      'run-resumed',
    ]);
  });

  it.each([
    ['each outer step', {}, 5],
    ['those where outer steps are drained', { outerSteps: 1, drainEveryOuterSteps: 4 }, 8],
  ])('write a checkpoint when they come after %s', async (_, staleness, complete) => {
    const section = 'outerSteps' in staleness ? { staleness } : {};
    const config = logisticConfig({ ...training, checkpointEveryOuterSteps: 12, ...section });
    const scene = new ControlScene();
    const outcome = await scene.run(async () => {
      const trained = scene.train(config, false, { pausedBefore: complete });
      await scene.saw('run-paused');
      await scene.clock.sleep(10_000);
      expect([...scene.checkpoints.states.keys()]).toEqual([complete]);
      await scene.order(ORDERS.resume);
      return trained;
    });
    expectEqual(outcome, await train(tinyRun(config, {}, store).options));
  });

  it('outlive a coordinator that is taken over', async () => {
    const scene = new ControlScene();
    await scene.run(async () => {
      const first = await scene.queue.openProducer('');
      await first.takeLease(RUN, holderOf('dead'), null);
      const controller = await scene.queue.openController();
      const orders = { isPaused: true, isCancelled: false, outerSteps: null };
      const found = await controller.find(RUN);
      expect(await controller.replace(RUN, found!.orders, orders)).toBe(true);
      const trained = scene.train(config);
      await scene.saw('run-paused');
      expect(scene.jobStartsMs).toEqual([]);
      await scene.order(ORDERS.resume);
      await trained;
    });
  });

  it('end for a coordinator that is taken over in a pause, although nobody resumes it', async () => {
    const scene = new ControlScene();
    await scene.run(async () => {
      const failure = scene.train(config).catch((error: unknown) => error);
      await scene.sawStep(3);
      await scene.order(ORDERS.pause);
      await scene.saw('run-paused');
      const other = await scene.queue.openProducer('');
      const held = await other.takeLease(RUN, holderOf('other'), null);
      const mark = held.kind === 'held' ? held.mark : null;
      expect(await other.takeLease(RUN, holderOf('other'), mark)).toMatchObject({ kind: 'taken' });
      const end = await Promise.race([failure, scene.clock.sleep(HOUR_MS)]);
      expect(end).toBeInstanceOf(RunFencedError);
      expect(scene.kinds()).not.toContain('run-resumed');
    });
  });
});

describe('cancel', () => {
  it('stops a run so that a resume ends as an undisturbed run', async () => {
    const scene = new ControlScene();
    const outcome = await scene.run(async () => {
      const trained = scene.train(config);
      const failure = trained.then(
        () => null,
        (error: unknown) => error,
      );
      await scene.sawStep(7);
      await scene.order(ORDERS.cancel);
      expect(await failure).toMatchObject({
        kind: 'cancelled',
        message: expect.stringMatching(/outer step [78] of 12 is safe/) as string,
      });
      expect(scene.kinds()).toContain('run-cancelled');
      return scene.train(config, true);
    });
    expectEqual(outcome, await undisturbed());
  });

  // Seen to fail: the command said that the run had stopped, and the run had finished.
  it.each([
    ['is over before the coordinator reads the order', 100],
    ['writes its last checkpoint when the coordinator reads the order', 10_000],
  ])('says that it came too late for a run that %s', async (_, writeMs) => {
    const scene = new ControlScene();
    const written = { ...scene.checkpoints };
    scene.checkpoints.write = async (state) => {
      if (state.outerStep === 12) await scene.clock.sleep(writeMs);
      return written.write(state);
    };
    const outcome = await scene.run(async () => {
      const trained = scene.train(config);
      await scene.sawStep(12);
      await expect(scene.order(ORDERS.cancel)).rejects.toMatchObject({
        kind: 'failed',
        report: {
          what: `run ${RUN} finished before the cancel took effect`,
          found: 'outer step 12 of 12 is complete',
        },
      });
      return trained;
    });
    expectEqual(outcome, await undisturbed());
    expect(scene.kinds()).not.toContain('run-cancelled');
  });

  it('stops a paused run too, and is not heeded by the next start', async () => {
    const scene = new ControlScene();
    const outcome = await scene.run(async () => {
      const trained = scene.train(config).catch((error: unknown) => error);
      await scene.sawStep(2);
      await scene.order(ORDERS.pause);
      await scene.saw('run-paused');
      expect((await scene.order(ORDERS.cancel)).state).toMatch(/stopping|ended/);
      expect(await trained).toMatchObject({ kind: 'cancelled' });
      return scene.train(config, true);
    });
    expectEqual(outcome, await undisturbed());
  });

  it('of a run whose coordinator was killed is not heeded by the next start', async () => {
    const scene = new ControlScene();
    const outcome = await scene.run(async () => {
      const killed = await scene.queue.openProducer('');
      await killed.takeLease(RUN, holderOf('killed'), null);
      expect(await scene.order(ORDERS.cancel)).toMatchObject({ state: 'ended' });
      return scene.train(config, true);
    });
    expectEqual(outcome, await undisturbed());
    expect(scene.kinds()).not.toContain('run-cancelled');
  });
});

describe('extend', () => {
  it('ends as a run that was configured so, also in its last outer step', async () => {
    const scene = new ControlScene();
    const outcome = await scene.run(async () => {
      const trained = scene.train(config);
      await scene.sawStep(3);
      expect(await scene.order(extension({ count: 15, isAdded: false }))).toMatchObject({
        outerSteps: 15,
      });
      await scene.sawStep(14);
      await scene.order(extension({ count: 2, isAdded: true }));
      return trained;
    });
    expectEqual(outcome, await undisturbed(17));
    const lengths = scene.events.flatMap(({ event }) =>
      event.kind === 'run-extended' ? [[event.earlierOuterSteps, event.outerSteps]] : [],
    );
    expect(lengths).toEqual([
      [12, 15],
      [15, 17],
    ]);
  });

  it('is known to a resume although it was ordered during a pause that was cancelled', async () => {
    const scene = new ControlScene();
    const outcome = await scene.run(async () => {
      const trained = scene.train(config).catch((error: unknown) => error);
      await scene.sawStep(3);
      await scene.order(ORDERS.pause);
      await scene.saw('run-paused');
      await scene.order(extension({ count: 5, isAdded: true }));
      await scene.order(ORDERS.cancel);
      expect(await trained).toMatchObject({ kind: 'cancelled' });
      return scene.train(config, true);
    });
    expectEqual(outcome, await undisturbed(17));
  });

  it.each([
    ['is ordered before the first outer step ends', false],
    ['and a pause are ordered before the first outer step ends', true],
  ])('is known to a resume when it %s, and the run is cancelled', async (_, isPaused) => {
    const scene = new ControlScene();
    const outcome = await scene.run(async () => {
      const trained = scene.train(config).catch((error: unknown) => error);
      await scene.saw('run-started');
      if (isPaused) await scene.order(ORDERS.pause);
      await scene.order(extension({ count: 5, isAdded: true }));
      await scene.order(ORDERS.cancel);
      expect(scene.kinds()).not.toContain('outer-step');
      expect(await trained).toMatchObject({
        report: { cure: expect.stringContaining('--resume') as string },
      });
      await expect(scene.train(config)).rejects.toMatchObject({ kind: 'usage' });
      return scene.train(config, true);
    });
    expectEqual(outcome, await undisturbed(17));
  });

  it('is refused while the last checkpoint is written', async () => {
    const scene = new ControlScene();
    const written = { ...scene.checkpoints };
    scene.checkpoints.write = async (state) => {
      if (state.outerStep === 12) await scene.clock.sleep(10_000);
      return written.write(state);
    };
    const outcome = await scene.run(async () => {
      const trained = scene.train(config);
      await scene.sawStep(12);
      await scene.clock.sleep(4_000);
      await expect(scene.order(extension({ count: 5, isAdded: true }))).rejects.toMatchObject({
        kind: 'usage',
        report: {
          what: expect.stringMatching(/its last outer step is over/) as string,
          found: 'one whose training has ended',
        },
      });
      return trained;
    });
    expectEqual(outcome, await undisturbed(12));
  });

  it('is refused at once by work that never trains', async () => {
    const scene = new ControlScene();
    await scene.run(async () => {
      const { queue, clock } = scene;
      const evaluation = await createQueueDispatcher({
        ...{ queue, clock, limits: queueConfig(), runId: RUN, nonce: 'evaluation' },
        ...{ mayTrain: false, sink: () => undefined },
      });
      const beganMs = clock.monotonicMs();
      await expect(scene.order(extension({ count: 5, isAdded: true }))).rejects.toMatchObject({
        ...{ kind: 'usage', report: { what: 'this run has no outer steps to extend' } },
      });
      expect(clock.monotonicMs()).toBe(beganMs);
      await evaluation.close();
    });
  });

  it('is refused after a while by a coordinator that does not begin to train', async () => {
    const scene = new ControlScene();
    await scene.run(async () => {
      const evaluation = await scene.queue.openProducer('');
      await evaluation.takeLease(RUN, holderOf('evaluation'), null);
      void scene.clock.sleep(7_000).then(() => evaluation.renewLease(holderOf('evaluation')));
      await expect(scene.order(extension({ count: 5, isAdded: true }))).rejects.toMatchObject({
        ...{ kind: 'usage', report: { what: 'this run has no outer steps to extend yet' } },
      });
    });
  });

  it.each([
    ['a decaying rate', { schedule: { decay: 'cosine' } }, 'training.schedule.decay: cosine'],
  ])('is refused under %s, and nothing changes', async (_, section, found) => {
    const scene = new ControlScene();
    const fixed = logisticConfig({ ...training, outerSteps: 4, ...section });
    const outcome = await scene.run(async () => {
      const trained = scene.train(fixed);
      await scene.sawStep(1);
      await expect(scene.order(extension({ count: 9, isAdded: false }))).rejects.toMatchObject({
        kind: 'usage',
        report: { found },
      });
      return trained;
    });
    expectEqual(outcome, await train(tinyRun(fixed, {}, store).options));
  });

  it.each([
    ['fewer steps', 11],
    ['as many', 12],
    ['more than a config may have', 10_000_001],
  ])('is refused with %s', async (_, count) => {
    const scene = new ControlScene();
    await scene.run(async () => {
      const trained = scene.train(config);
      await scene.sawStep(1);
      await expect(scene.order(extension({ count, isAdded: false }))).rejects.toMatchObject({
        kind: 'usage',
        report: {
          found: `${count}`,
          expected: 'more than the 12 that it has, and at most 10000000',
        },
      });
      return trained;
    });
  });
});

describe('a run that nobody works on', () => {
  it.each(Object.entries(ORDERS))('cannot be given the order %s', async (_, order) => {
    const scene = new ControlScene();
    await expect(scene.run(() => scene.order(order))).rejects.toMatchObject({
      kind: 'usage',
      report: { what: `no coordinator works on run ${RUN}`, where: 'memory' },
    });
  });

  it('after its end cannot be ordered, and a coordinator that says nothing is named', async () => {
    const scene = new ControlScene();
    await scene.run(async () => {
      await scene.train(config);
      await expect(scene.order(ORDERS.pause)).rejects.toMatchObject({ kind: 'usage' });
      const silent = await scene.queue.openProducer('');
      const process = { host: 'box', boot: 'b', pidNamespace: 'n', pid: 7, startTicks: '1' };
      await silent.takeLease(RUN, { start: 's', process, sinceMs: 0, beatMs: 0 }, null);
      void scene.clock.sleep(7_000).then(async () => {
        await silent.renewLease({ start: 's', process, sinceMs: 0, beatMs: 1 });
      });
      await expect(scene.order(ORDERS.pause)).rejects.toMatchObject({
        kind: 'transient',
        report: { found: 'process 7 on box says nothing new' },
      });
    });
  });
});

describe('any orders at any time', () => {
  it.each(Array.from({ length: 5 }, (_, seed) => seed))(
    'leave the meta-parameters of an undisturbed run: seed %i',
    async (seed) => {
      const scene = new ControlScene();
      const stream = randomStream(seed, 'run control');
      const outcome = await scene.run(async () => {
        let isOver = false;
        const tormented = async (): Promise<void> => {
          while (!isOver) {
            await scene.clock.sleep(stream.below(30_000));
            const order = [ORDERS.pause, ORDERS.resume, ORDERS.resume, ORDERS.cancel][
              stream.below(4)
            ]!;
            // A run between two starts cannot be ordered.
            await scene.order(order).catch(() => undefined);
          }
        };
        const torment = tormented();
        for (let starts = 1; ; starts += 1) {
          const ended = await scene.train(config, starts > 1).catch((error: unknown) => {
            if (isInterruption(error)) return null;
            throw error;
          });
          if (ended === null) continue;
          isOver = true;
          await torment;
          return ended;
        }
      });
      expectEqual(outcome, await undisturbed());
    },
  );
});
