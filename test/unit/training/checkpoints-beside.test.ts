/** Checkpoints that are written while the outer loop goes on. */

import { describe, expect, it } from 'vitest';
import {
  openCheckpoints,
  type Checkpoints,
} from '../../../coordinator/checkpoints/checkpoint-writer.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { metaParametersDigest } from '../../../shared/models/meta-parameters.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import {
  logisticConfig,
  mapCheckpoints,
  stateDigest,
  tinyRun,
} from '../../fixtures/training/training-run.js';

const config = logisticConfig({
  outerSteps: 6,
  tasksPerOuterStep: 6,
  checkpointEveryOuterSteps: 2,
  optimizer: { kind: 'adam', rate: 0.05 },
});

const courseOf = (events: readonly RunEvent[]): string[] =>
  events.flatMap((event) =>
    event.kind === 'outer-step' || event.kind === 'checkpoint'
      ? [`${event.kind} ${event.outerStep}`]
      : [],
  );

/** Checkpoints of which the first put waits until an outer step was reported. */
function waitingFor(outerStep: number): { store: MemoryObjectStore; sink: (e: RunEvent) => void } {
  let release: () => void = () => undefined;
  const reported = new Promise<void>((resolve) => (release = resolve));
  class WaitingStore extends MemoryObjectStore {
    override async put(...args: Parameters<MemoryObjectStore['put']>): Promise<string | null> {
      await reported;
      return super.put(...args);
    }
  }
  return {
    store: new WaitingStore(),
    sink: (event) => {
      if (event.kind === 'outer-step' && event.outerStep === outerStep) release();
    },
  };
}

describe('a checkpoint that is written beside training', () => {
  it('lets outer steps go on, is the state of its own, and is waited for by the next', async () => {
    const expected = tinyRun(config);
    const { state } = await train(expected.options);
    const atTwo = expected.checkpoints.states.get(2)!;

    const { store, sink } = waitingFor(4);
    const run = tinyRun(config);
    const checkpoints: Checkpoints = openCheckpoints({
      ...{ store, runName: 'tiny-run', configHash: 'hash', deciding: {}, storeDigest: 'store' },
      ...{ spec: run.options.run.spec, kept: 9, clock: run.options.caller.clock, sink },
    });
    const found: string[] = [];
    const outcome = await train({
      ...run.options,
      checkpoints: {
        latest: () => checkpoints.latest(),
        write: async (written, tables) => {
          const receipt = await checkpoints.write(written, tables);
          found.push(`${written.outerStep} ${receipt.digest}`);
          return receipt;
        },
      },
      caller: {
        ...run.options.caller,
        sink: (event) => {
          run.options.caller.sink(event);
          sink(event);
        },
      },
    });
    expect(courseOf(run.events).slice(0, 6)).toEqual([
      'outer-step 1',
      'outer-step 2',
      'outer-step 3',
      'outer-step 4',
      'checkpoint 2',
      'outer-step 5',
    ]);
    const digestAt = (written: typeof state): string =>
      `${written.outerStep} ${metaParametersDigest(written.metaParameters)}`;
    expect(found[0]).toBe(digestAt(atTwo));
    expect(found.at(-1)).toBe(digestAt(state));
    expect(stateDigest(outcome.state)).toEqual(stateDigest(state));
  });

  it('that fails ends the run at the next outer step, which is written', async () => {
    const run = tinyRun(config);
    const checkpoints = mapCheckpoints();
    const full = new QianmoError({ kind: 'environment', what: 'the disk is full' });
    let writeCount = 0;
    const failing: Checkpoints = {
      latest: () => checkpoints.latest(),
      write: (state) => {
        writeCount += 1;
        return writeCount === 1 ? Promise.reject(full) : checkpoints.write(state);
      },
    };
    await expect(train({ ...run.options, checkpoints: failing })).rejects.toBe(full);
    expect([...checkpoints.states.keys()]).toEqual([2]);
  });

  it('that fails does not hide a newer one that succeeds', async () => {
    const run = tinyRun(config, { stopAtOuterStep: 2 });
    const checkpoints = mapCheckpoints();
    let writeCount = 0;
    const failing: Checkpoints = {
      latest: () => checkpoints.latest(),
      write: (state) => {
        writeCount += 1;
        return writeCount === 1
          ? Promise.reject(new QianmoError({ kind: 'transient', what: 'the store broke off' }))
          : checkpoints.write(state);
      },
    };
    expect((await train({ ...run.options, checkpoints: failing })).outerSteps).toBe(2);
  });
});
