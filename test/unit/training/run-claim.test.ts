/** Claims on a run over a store in memory and in virtual time: who gets one, and what a lost one is worth. */

import { describe, expect, it } from 'vitest';
import { claimRun } from '../../../coordinator/dispatch/run-lease.js';
import { readMetaParameters } from '../../../coordinator/checkpoints/checkpoint-reader.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { thisProcess, type ProcessIdentity } from '../../../shared/storage/process-identity.js';
import { RunFencedError, type HeldLease } from '../../../shared/storage/lease.js';
import { simulatedClock, type SimulatedClock } from '../../fixtures/clocks/simulated-clock.js';
import { checkpointsIn } from '../../fixtures/stores/checkpoint-stores.js';
import { tinySpec, tinyState } from '../../fixtures/training-states.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const ENDED: ProcessIdentity = { ...thisProcess(), startTicks: 'before' };
const ELSEWHERE: ProcessIdentity = { ...thisProcess(), host: 'another machine' };

class Room {
  readonly clock: SimulatedClock = simulatedClock();
  readonly store = new MemoryObjectStore();
  readonly events: RunEvent[] = [];

  /** @param clock one whose sleepers never wake is that of a suspended process. */
  claim(
    start: string,
    process = thisProcess(),
    { clock = this.clock, run = 'tiny' }: { clock?: SimulatedClock; run?: string } = {},
  ): Promise<HeldLease> {
    return claimRun({
      ...{ store: this.store, run, start, process, clock },
      sink: (event) => void this.events.push(event),
      signal: new AbortController().signal,
    });
  }

  /** A claim whose holder says nothing from its first beat on. */
  suspended(start: string, process: ProcessIdentity): Promise<HeldLease> {
    const { clock } = this;
    return this.claim(start, process, {
      clock: { ...clock, sleep: () => new Promise<never>(() => undefined) },
    });
  }
}

function inRoom(title: string, body: (room: Room) => Promise<void>): void {
  it(title, () => {
    const room = new Room();
    return room.clock.run(() => body(room));
  });
}

describe('a claim', () => {
  inRoom('is refused at once while the process of another one is seen to run', async (room) => {
    const first = await room.claim('first');
    await expectFailureOf(room.claim('second'), 'taken', {
      what: new RegExp(
        `^another coordinator works on run tiny: process ${process.pid} on \\S+, since 1970-`,
      ),
      where: 'memory://store/coordinator.json',
    });
    expect(room.clock.monotonicMs()).toBe(0);
    await first.demand();
    await first.release();
  });

  // Seen to fail: it named the run that asked.
  inRoom('of another run on the same output is named by its refusal', async (room) => {
    const first = await room.claim('first');
    await expect(room.claim('second', thisProcess(), { run: 'other' })).rejects.toMatchObject({
      report: {
        what: expect.stringMatching(/^another coordinator works on run tiny: process /) as string,
        found: 'run other asks for what run tiny has',
      },
    });
    await first.release();
  });

  inRoom('is refused when a holder elsewhere says that it lives', async (room) => {
    const first = await room.claim('first', ELSEWHERE);
    await expect(room.claim('second')).rejects.toMatchObject({ kind: 'taken' });
    expect(room.clock.monotonicMs()).toBeLessThanOrEqual(6_000);
    await first.demand();
    await first.release();
  });

  inRoom('of a process that has ended is taken over at once, with a larger epoch', async (room) => {
    const first = await room.suspended('first', ENDED);
    const second = await room.claim('second');
    expect(second.epoch).toBeGreaterThan(first.epoch);
    expect([room.clock.monotonicMs(), room.events]).toEqual([0, []]);
    await second.release();
  });

  inRoom('of a silent holder is taken over after a time, which is told', async (room) => {
    const first = await room.suspended('first', ELSEWHERE);
    const second = await room.claim('second');
    expect(room.clock.monotonicMs()).toBe(20_000);
    expect(room.events).toEqual([
      {
        ...{ kind: 'notice', code: 'lease-awaited' },
        text:
          'an earlier coordinator on another machine has not given the run back ' +
          '(memory://store/coordinator.json); waiting up to 20.0 s for a sign of life',
      },
    ]);
    await expect(first.demand()).rejects.toThrow(RunFencedError);
    expect(first.lost.aborted).toBe(true);
    await second.demand();
    await second.release();
  });

  inRoom('that was given back is free, and its epoch still grows', async (room) => {
    const first = await room.claim('first', ELSEWHERE);
    await first.release();
    const second = await room.claim('second');
    expect([first.epoch, second.epoch, room.clock.monotonicMs()]).toEqual([1, 2, 0]);
    await second.release();
  });

  inRoom('that could not be given back is free for the process that had it', async (room) => {
    const first = await room.claim('first');
    const put = room.store.put.bind(room.store);
    room.store.put = () => Promise.reject(new QianmoError({ kind: 'environment', what: 'full' }));
    await first.release();
    room.store.put = put;
    const second = await room.claim('second');
    expect([second.epoch, room.clock.monotonicMs()]).toEqual([2, 0]);
    await expect(room.claim('third')).rejects.toMatchObject({ kind: 'taken' });
    await second.release();
  });

  inRoom('that is lost is noticed at the next beat', async (room) => {
    const first = await room.claim('first', ENDED);
    const second = await room.claim('second');
    await room.clock.sleep(6_000);
    expect([first.lost.aborted, second.lost.aborted]).toEqual([true, false]);
    await second.release();
  });

  it('outlasts a renewal that is carried out without an answer', async () => {
    const room = new Room();
    let loseAnswers = false;
    const { store } = room;
    const put = store.put.bind(store);
    store.put = async (...written) => {
      const etag = await put(...written);
      if (loseAnswers) throw new QianmoError({ kind: 'transient', what: 'no answer came' });
      return etag;
    };
    await room.clock.run(async () => {
      const claim = await room.claim('first', ENDED);
      loseAnswers = true;
      await room.clock.sleep(6_000);
      loseAnswers = false;
      await claim.demand();
      await room.clock.sleep(6_000);
      expect(claim.lost.aborted).toBe(false);
      const second = await room.claim('second');
      await expect(claim.demand()).rejects.toThrow(RunFencedError);
      await second.release();
    });
  });
});

describe('checkpoints under a claim', () => {
  const stateAt = (outerStep: number) => tinyState(tinySpec(), outerStep);
  const under = (store: ObjectStore, claim: HeldLease) => checkpointsIn(store, { claim });

  inRoom('are refused to a coordinator that has lost it, before the first one', async (room) => {
    const zombie = await room.suspended('zombie', ENDED);
    const checkpoints = under(room.store, zombie);
    await checkpoints.latest();
    const successor = await room.claim('successor');
    const before = await room.store.list('');
    await expect(checkpoints.write(stateAt(1))).rejects.toThrow(RunFencedError);
    expect(await room.store.list('')).toEqual(before);
    await successor.release();
  });

  inRoom('replace one that was written late under a lost claim', async (room) => {
    const zombie = await room.suspended('zombie', ENDED);
    // The zombie is suspended after its last check: the check passes, and the write comes late.
    const late = under(room.store, { ...zombie, demand: () => Promise.resolve() });
    await late.latest();
    const claim = await room.claim('successor');
    const successor = under(room.store, claim);
    await successor.latest();
    await late.write(stateAt(1));
    await successor.write(stateAt(2));
    await late.write(stateAt(3)).catch(() => undefined);
    await successor.write(stateAt(4));
    expect((await checkpointsIn(room.store).latest())?.outerStep).toBe(4);
    await claim.release();
  });

  it('leave the best one to a successor that takes over during a write', async () => {
    const room = new Room();
    const scored = (outerStep: number, ...losses: number[]) => ({
      ...stateAt(outerStep),
      validated: losses.map((loss, index) => ({ outerStep: index + 1, loss })),
    });
    const { store } = room;
    const zombie = await room.suspended('zombie', ENDED);
    const late = checkpointsIn(store, { claim: zombie, kept: 1 });
    await late.latest();
    await late.write(scored(1, 5));
    const put = store.put.bind(store);
    let claim: HeldLease | null = null;
    let successor = late;
    store.put = async (key, ...written) => {
      // The zombie is suspended before it replaces a pointer.
      if (claim === null && !key.includes('/')) {
        store.put = put;
        claim = await room.claim('successor');
        successor = checkpointsIn(store, { claim, kept: 1 });
        await successor.latest();
        await successor.write(scored(2, 5, 6));
      }
      return put(key, ...written);
    };
    await expect(late.write(scored(3, 5, 6, 4))).rejects.toThrow(RunFencedError);
    await successor.write(scored(3, 5, 6, 7));
    const reader = checkpointsIn(store);
    expect((await readMetaParameters(reader.options))?.outerStep).toBe(1);
    expect(reader.warnings).toEqual([]);
    await claim!.release();
  });
});
