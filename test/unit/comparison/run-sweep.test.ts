/** The sweep loop on trials with known scores: promotion, retention, resume. */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { sweepDocument } from '../../../coordinator/reports/sweep-document.js';
import { describe, expect, it } from 'vitest';
import { rungsOf, runSweep } from '../../../coordinator/sweep/run-sweep.js';
import {
  emptyRecord,
  openSweepJournal,
  rankedTrials,
  type SweepPlan,
  type SweepRecord,
} from '../../../coordinator/sweep/sweep-record.js';
import { planTrials } from '../../../coordinator/sweep/trials.js';
import { SweepConfigSchema } from '../../../shared/config/sweep-config.js';
import { posterior } from '../../../shared/methods/posterior.js';
import { DivergenceError, QianmoError } from '../../../shared/base/errors.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { failureOf } from '../../fixtures/failures.js';
import { smallRun } from '../../fixtures/commands/small-run.js';
import { warningsOf } from '../../fixtures/told.js';

type SweepOptions = Parameters<typeof runSweep>[0];

function planOf(trialCount: number, halving?: { eta: number; rungs?: number }): SweepPlan {
  const seeds = Array.from({ length: trialCount }, (_, seed) => seed);
  const sweep = SweepConfigSchema.parse({
    sweep: 'tiny',
    base: 'base.yaml',
    output: 'out',
    grid: { seed: seeds },
  });
  return {
    kind: 'sweep',
    sweep: 'tiny',
    base: 'base.yaml',
    trials: planTrials(sweep, smallRun('base', 18), 'sweep.yaml'),
    rungs: rungsOf(trialCount, 18, halving, 'sweep.yaml'),
    storeDigest: 'store',
    segment: null,
    criterion: 'lowest logloss',
    loss: 'logloss',
  };
}

/** Logloss by trial and outer step. Trial 4 of 6 is best in the end and third at first. */
const logloss = (name: string, outerSteps: number): number =>
  Math.abs(Number(name.slice(1)) - 4) / 10 + 0.05 / outerSteps;

interface Room {
  readonly options: SweepOptions;
  /** Formatted as `t01 to 2`, in order. */
  readonly trained: string[];
  readonly discarded: string[];
  readonly saved: SweepRecord[];
  readonly warnings: string[];
}

function room(plan: SweepPlan, changes: Partial<SweepOptions> = {}): Room {
  const trained: string[] = [];
  const discarded: string[] = [];
  const saved: SweepRecord[] = [];
  const warnings: string[] = [];
  return {
    trained,
    discarded,
    saved,
    warnings,
    options: {
      record: emptyRecord(plan),
      concurrentTrials: 1,
      trialsKept: 1,
      runTrial: (name, outerSteps) => {
        trained.push(`${name} to ${outerSteps}`);
        return Promise.resolve({
          validationLogloss: logloss(name, outerSteps),
          cell: { kind: 'inner-steps', innerRate: 0.1, innerSteps: 2 },
          metaDigest: `${name}-${outerSteps}`,
        });
      },
      discard: (name) => {
        discarded.push(name);
        return Promise.resolve();
      },
      save: (record) => {
        saved.push(record);
        return Promise.resolve();
      },
      sink: (event) => {
        warnings.push(...warningsOf([event]));
      },
      signal: new AbortController().signal,
      ...changes,
    },
  };
}

describe('successive halving', () => {
  it('trains six trials to 2, the best two to 6 and the best one to 18', async () => {
    const { options, trained } = room(planOf(6, { eta: 3, rungs: 3 }));
    const record = await runSweep(options);
    expect(trained).toEqual([
      ...['t01', 't02', 't03', 't04', 't05', 't06'].map((name) => `${name} to 2`),
      't04 to 6',
      't03 to 6',
      't04 to 18',
    ]);
    expect(
      rankedTrials(record)
        .map(({ name }) => name)
        .join(' '),
    ).toBe('t04 t03 t05 t02 t06 t01');
  });

  it('removes the checkpoints of a trial as soon as it is eliminated, and no others', async () => {
    const { options, discarded, trained } = room(planOf(6, { eta: 3, rungs: 3 }));
    const order: string[] = [];
    await runSweep({
      ...options,
      discard: (name) => {
        order.push(`${name} after ${trained.length}`);
        return options.discard(name);
      },
    });
    // Trials are eliminated when they rank behind two of three, four, five, six, and then behind
    // one of two.
    expect(order).toEqual([
      't01 after 3',
      't02 after 4',
      't05 after 5',
      't06 after 6',
      't03 after 8',
    ]);
    expect(discarded).not.toContain('t04');
  });
});

describe('a sweep that is stopped', () => {
  it('resumes where it was, trains nothing twice and ends with the same record', async () => {
    const plan = planOf(6, { eta: 3, rungs: 3 });
    const expected = await runSweep(room(plan).options);
    for (let stopAfter = 0; stopAfter < 9; stopAfter += 1) {
      const first = room(plan);
      const stopped = failureOf(
        runSweep({
          ...first.options,
          runTrial: (name, outerSteps, signal) => {
            if (first.trained.length === stopAfter)
              throw new QianmoError({ kind: 'interrupted', what: 'Ctrl-C' });
            return first.options.runTrial(name, outerSteps, signal);
          },
        }),
      );
      expect((await stopped).kind).toBe('interrupted');
      const again = room(plan, { record: first.saved.at(-1) ?? emptyRecord(plan) });
      expect(await runSweep(again.options)).toEqual(expected);
      expect(first.trained.length + again.trained.length).toBe(9);
    }
  });

  it('stops the concurrent trials when one fails, and throws its failure', async () => {
    const { options } = room(planOf(6), { concurrentTrials: 3 });
    const stopped: string[] = [];
    const failure = await failureOf(
      runSweep({
        ...options,
        runTrial: (name, outerSteps, signal) => {
          if (name === 't02') throw new QianmoError({ kind: 'environment', what: 'disk full' });
          return new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              stopped.push(`${name} before ${outerSteps}`);
              reject(new QianmoError({ kind: 'interrupted', what: 'stopped' }));
            });
          });
        },
      }),
    );
    expect(failure.report.what).toBe('disk full');
    expect(stopped).toEqual(['t01 before 18', 't03 before 18']);
  });
});

it('names the settings of a trial as its method does', async () => {
  const plan = planOf(2);
  const trials = plan.trials.map((trial, place) =>
    place === 0
      ? trial
      : {
          ...trial,
          config: { ...trial.config, method: posterior.settings.parse({ kind: 'posterior' }) },
        },
  );
  const record = await runSweep(room({ ...plan, trials }).options);
  expect(record.trials.map(({ method }) => method)).toEqual(['fomaml', 'posterior']);
  const table = asText(sweepDocument(record), 200);
  expect(table).toMatch(/t01 .*inner rate 0\.1, 2 inner steps/);
  expect(table).toMatch(/t02 .*prior scale 0\.1, 2 Newton steps/);
});

describe('a trial that diverges', () => {
  const diverging = (names: readonly string[], { options }: Room): SweepOptions => ({
    ...options,
    runTrial: (name, outerSteps, signal) => {
      if (names.includes(name)) throw new DivergenceError({ kind: 'failed', what: 'not finite' });
      return options.runTrial(name, outerSteps, signal);
    },
  });

  it('is dropped and ranked last, and the others continue', async () => {
    const found = room(planOf(6, { eta: 3, rungs: 3 }));
    const record = await runSweep(diverging(['t04', 't03'], found));
    expect(
      rankedTrials(record)
        .map(({ name }) => name)
        .join(' '),
    ).toBe('t05 t02 t06 t01 t03 t04');
    expect(found.warnings).toHaveLength(2);
    expect(found.discarded).toContain('t04');
    const table = asText(sweepDocument({ ...record, best: null }), 100);
    expect(table).toMatch(/t04 .*diverged/);
    expect(/NaN|undefined|Infinity/.exec(table + asPage(sweepDocument(record)))).toBeNull();
  });
});

describe('the journal', () => {
  const plan = planOf(4);
  const empty = emptyRecord(plan);
  const saidNothing = { resume: false, fresh: false };

  it('refuses an existing sweep unless told what to do, another sweep, and damage', async () => {
    const store = new MemoryObjectStore('sweep');
    await (await openSweepJournal(store, empty, saidNothing)).save(empty);
    const refusal = async (other: SweepRecord, resume: boolean) =>
      (await failureOf(openSweepJournal(store, other, { resume, fresh: false }))).report;
    expect((await refusal(empty, false)).what).toBe(
      'the output contains a sweep that was started before',
    );
    const halved = emptyRecord(planOf(4, { eta: 2 }));
    expect((await refusal(halved, true)).found).toBe('other rungs or evaluation settings');
    const moved = emptyRecord({ ...plan, storeDigest: 'other' });
    expect((await refusal(moved, true)).found).toBe('a sweep of another task store');
    await store.put('sweep.json', Buffer.from('{}'), { kind: 'always' });
    expect(await refusal(empty, true)).toMatchObject({
      kind: 'data',
      where: 'memory://sweep/sweep.json',
    });
    const fresh = await openSweepJournal(store, empty, { resume: false, fresh: true });
    expect(fresh.record).toEqual(empty);
  });

  it('lets only the later of two coordinators continue', async () => {
    const store = new MemoryObjectStore();
    const first = await openSweepJournal(store, empty, saidNothing);
    await first.save(empty);
    const second = await openSweepJournal(store, empty, { resume: true, fresh: false });
    await second.save(empty);
    expect((await failureOf(first.save(empty))).report.what).toMatch(/another coordinator/);
  });
});
