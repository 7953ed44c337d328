/**
 * qianmo as a library: the return values of its functions, and their effects on the calling
 * process.
 */

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import type { StampedEvent } from '../../infra/library/index.js';
import { parseEventLine } from '../../shared/events/event-lines.js';
import { smallLog, smallRun } from '../fixtures/commands/small-run.js';
import { compiledLibrary } from '../fixtures/commands/compiled-library.js';
import { keepComputeWarm } from '../fixtures/commands/warm-compute.js';
import { openedOnce } from '../fixtures/opened.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';

const OUTER_STEPS = 8;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'uncaughtException', 'unhandledRejection', 'exit'];

const library = await compiledLibrary();

const folder = openedOnce(temporaryFolder);
beforeAll(async () => {
  await writeFile(join(folder.path, 'log.csv'), smallLog());
  await library.prepare({ config: configOf('prepared') });
});

/** A run on the shared store, with absolute paths. */
function configOf(name: string) {
  const { data, ...run } = smallRun(name, OUTER_STEPS);
  const at = (file: string): string => join(folder.path, file);
  return {
    ...run,
    data: { ...data, logs: at('log.csv'), store: at('store') },
    evaluation: { innerRates: [0.3], innerSteps: [1], bootstrapSamples: 100 },
    output: at(name),
  };
}

/** Everything in this process that a library must leave unchanged. */
function stateOfProcess(): unknown {
  return {
    environment: { ...process.env },
    handlers: SIGNALS.map((name) => [name, process.listenerCount(name)]),
    exitCode: process.exitCode,
    folder: process.cwd(),
  };
}

describe('the library', () => {
  /** The digest of the run of the first test. */
  let undisturbed: string;

  test('trains and evaluates a config object, prints nothing and leaves nothing behind', async () => {
    const before = stateOfProcess();
    const written = [process.stdout, process.stderr].map((stream) =>
      vi.spyOn(stream, 'write').mockReturnValue(true),
    );
    const config = configOf('quiet');
    const given = structuredClone(config);
    try {
      const result = await library.train({ config });
      undisturbed = result.digest;
      expect(result).toEqual({
        run: 'quiet',
        outerSteps: OUTER_STEPS,
        checkpoint: expect.stringContaining('quiet/checkpoints') as string,
        digest: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
      });
      const [report, ...others] = await library.evaluate({ config });
      expect(others).toEqual([]);
      expect(report?.run.metaDigest).toBe(result.digest);
      for (const write of written) expect(write.mock.calls).toEqual([]);
    } finally {
      for (const write of written) write.mockRestore();
    }
    expect(stateOfProcess()).toEqual(before);
    expect(config).toEqual(given);
    expect(Object.isFrozen(config.data)).toBe(false);
  });

  test('reports the events of a run in order, and keeps them in its output', async () => {
    const told: StampedEvent[] = [];
    const training = library.train(
      { config: configOf('events') },
      { onEvent: (event) => told.push(event) },
    );
    const iterated: StampedEvent[] = [];
    for await (const event of training.events) iterated.push(event);
    expect(iterated).toEqual(told);
    const kinds = iterated.map(({ kind }) => kind);
    expect(kinds).toContain('compute-ready');
    expect(kinds.filter((kind) => kind === 'outer-step')).toHaveLength(OUTER_STEPS);
    expect(kinds.indexOf('run-started')).toBeLessThan(kinds.indexOf('outer-step'));
    expect(kinds.at(-1)).toBe('compute-ended');
    for (const event of iterated) expect(event.runId).toBe('events');
    const lines = await readFile(
      join(folder.path, 'events', 'events', 'events-000001.ndjson'),
      'utf8',
    );
    const logged = lines
      .trimEnd()
      .split('\n')
      .map((line) => parseEventLine(line));
    expect(logged.map(({ kind }) => kind)).toContain('run-finished');
    expect(logged[0]).toMatchObject({ kind: 'call-alive', call: 'train' });
    expect(logged.slice(-2).map(({ kind }) => kind)).toEqual(['compute-ended', 'call-ended']);
  });

  test('keeps the events of prepare, and of compare where it writes', async () => {
    const kindsIn = async (...path: string[]): Promise<string[]> => {
      const file = join(folder.path, ...path, 'events', 'events-000001.ndjson');
      const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
      return lines.map((line) => parseEventLine(line).kind);
    };
    expect(await kindsIn('prepared')).toContain('store-prepared');
    const runs = ['global', 'meta-adapted'].map((arm) => `${configOf('quiet').output}:${arm}`);
    await library.compare({ runs, out: join(folder.path, 'comparison') });
    expect(await kindsIn('comparison')).toEqual(['call-alive', 'report-written', 'call-ended']);
  });

  test('stops when the signal aborts; a resume ends like an undisturbed run', async () => {
    // The tests above have seen how a compute process starts and ends.
    await keepComputeWarm();
    const stop = new AbortController();
    const config = configOf('stopped');
    const training = library.train(
      { config },
      {
        signal: stop.signal,
        onEvent: (event) => {
          if (event.kind === 'outer-step' && event.outerStep === 3) stop.abort();
        },
      },
    );
    await expect(training).rejects.toMatchObject({ name: 'QianmoError', kind: 'interrupted' });
    const resumed = await library.train({ config, resume: true });
    expect(resumed.digest).toBe(undisturbed);
  });

  test('runs two runs at once in one process', async () => {
    const both = await Promise.all(
      ['first', 'second'].map((name) => library.train({ config: configOf(name) })),
    );
    expect(both.map(({ run }) => run)).toEqual(['first', 'second']);
    for (const { digest } of both) expect(digest).toBe(undisturbed);
  });

  test('keeps the workers of an open run between calls, one call at a time', async () => {
    const before = stateOfProcess();
    const started: StampedEvent[] = [];
    const run = await library.openRun(
      { config: configOf('open'), workers: 1 },
      { onEvent: (event) => event.kind === 'worker-ready' && started.push(event) },
    );
    const training = run.train();
    await expect(run.evaluate()).rejects.toMatchObject({ kind: 'usage' });
    const { digest } = await training;
    const [report] = await run.evaluate();
    expect(report?.run.metaDigest).toBe(digest);
    await run.close();
    await expect(run.train({ resume: true })).rejects.toMatchObject({ kind: 'interrupted' });
    expect(started).toHaveLength(1);
    expect(stateOfProcess()).toEqual(before);
  });

  test('refuses unknown options and fields, and starts nothing', async () => {
    const misspelt = { config: configOf('refused'), worker: 2 };
    await expect(library.train(misspelt)).rejects.toMatchObject({
      kind: 'usage',
      report: {
        where: 'train()',
        found: expect.stringMatching(/did you mean "workers"/) as string,
      },
    });
    const config = { ...configOf('refused'), sed: 1 };
    await expect(library.train({ config })).rejects.toMatchObject({
      kind: 'usage',
      report: { where: 'config', found: expect.stringMatching(/did you mean "seed"/) as string },
    });
    const twoWays = { config: configOf('refused'), resume: true, fresh: true };
    await expect(library.train(twoWays)).rejects.toMatchObject({ kind: 'usage' });
    expect(existsSync(join(folder.path, 'refused'))).toBe(false);
  });
});

test('the example prepares, trains and evaluates', async () => {
  const example = fileURLToPath(
    new URL('../../infra/examples/library/train-and-evaluate.mjs', import.meta.url),
  );
  const { stdout } = await promisify(execFile)(process.execPath, [example], { cwd: folder.path });
  expect(stdout).toMatch(/adgroups, 20000 rows\n/);
  expect(stdout).toMatch(/outer step 40: loss 0\.\d+\n/);
  expect(stdout).toMatch(/meta-adapted: logloss 0\.\d+\n/);
});
