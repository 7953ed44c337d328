/** Verbs of the command alone: demos, set-up and simulation. */

import { z } from 'zod';
import { describeField, flag, integer, text } from '../../coordinator/runs/request-fields.js';
import { interruptedAs } from '../../coordinator/runs/run-handle.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { packageVersion } from '../library/package-root.js';
import { command } from '../library/verb.js';
import type { SimulationResult } from '../simulation/simulate.js';

const demoOut = (folder: string) =>
  z.strictObject({ out: text('<folder> folder for everything the demo makes').default(folder) });

command('demo', {
  request: demoOut('runs/movielens'),
  about: 'go from a log to a ranking, on the MovieLens example',
  takesFormat: true,
  help: '\nExample:\n  qianmo demo --out runs/demo',
  act: async ({ out }, around) => {
    const { runDemo } = await import('../library/demo.js');
    const { startDocument } = await import('../../coordinator/reports/start-document.js');
    const started = await interruptedAs(runDemo(out, around.options), () => ({
      what: 'the demo was stopped',
      where: out,
      cure: 'run the same command again: it continues from the last checkpoint',
    }));
    around.show(startDocument(started));
  },
});

command('demo-serve', {
  request: demoOut('runs/movielens-serve').extend({
    requests: integer(30, 1_000, '<count> requests that people send').default(600),
  }),
  about: 'train, export, serve, and refresh on what was served, on the MovieLens example',
  help: `
Some films are new: no rating of theirs trains the first model. People who have rated them send requests and click on those
that they rated 4 or better. The next models train on what the server has logged, and on nothing else. An earlier demo in
the folder is removed; one that still runs there is an error.

Example:
  qianmo demo-serve --out runs/loop`,
  act: async ({ out, requests }, { clock, options, print }) => {
    const { runClosedLoop } = await import('../library/closed-loop.js');
    const startedMs = clock.monotonicMs();
    const loop = { out, requestCount: requests, print, clock, options };
    await interruptedAs(runClosedLoop(loop), () => ({
      what: 'the demo was stopped',
      where: out,
      cure: 'run the same command again: it starts from nothing',
    }));
    print(`\nDone in ${Math.round((clock.monotonicMs() - startedMs) / 1000)} s.`);
  },
});

command('setup', {
  request: z.strictObject({ gpu: flag('TensorFlow with CUDA 12, 3.3 GB of downloads') }),
  about: 'install what this machine lacks: native TensorFlow and a Redis server',
  help: `
The first use of any verb does this by itself; this verb tries again what failed then.

Example:
  qianmo setup --gpu`,
  act: async ({ gpu }, { print }) => {
    const { setUp } = await import('../bootstrap/setup.mjs');
    const { BootstrapError } = await import('../bootstrap/base.mjs');
    try {
      await setUp({ retry: true, gpu });
    } catch (error) {
      if (!(error instanceof BootstrapError)) throw error;
      throw errorOf('environment', 'the setup failed', {
        found: error.message,
        cure: error.cure.join('\n'),
      });
    }
    print('ready: qianmo demo, or qianmo --help');
  },
});

const SEEDS_EXPECTED = 'expected two seeds with two points between, the smaller first: 0..49';
/** `3..5` is 3, 4 and 5. */
const SeedsSchema = z
  .string()
  .regex(/^\d{1,9}\.\.\d{1,9}$/, SEEDS_EXPECTED)
  .transform((range) => range.split('..').map(Number))
  .refine(([first = 0, last = 0]) => first <= last, SEEDS_EXPECTED);
const FaultsSchema = z
  .string()
  .regex(
    /^(none|\d{1,3}(,\d{1,3})*)$/,
    'expected the numbers of faults with commas between, or none',
  )
  .transform((list) => (list === 'none' ? [] : list.split(',').map(Number)));

command('simulate', {
  request: z.strictObject({
    seed: integer(0, 2 ** 31, '<seed> decides the faults').default(0),
    seeds: describeField(SeedsSchema, '<first..last> many seeds in turn', {
      conflicts: 'seed',
    }).optional(),
    workers: integer(1, 64, '<count> number of workers').default(3),
    faults: describeField(
      FaultsSchema,
      '<numbers> only these faults of the seed, as 0,2,5; none for an undisturbed run',
    ).optional(),
    showEvents: flag('print every event, too'),
  }),
  about: 'run coordinators and workers in virtual time, under faults that a seed decides',
  takesFormat: true,
  help: `
Checks the invariants of the runtime after every event. The first seed that violates one ends the command with exit
code 1, with the fewest faults that still do, and with the command that repeats it.

Examples:
  qianmo simulate --seed 7 --workers 3
  qianmo simulate --seeds 0..49 --format json`,
  act: async ({ seed, seeds, workers, faults, showEvents }, { print, show, signal }) => {
    const { simulate, shrunk, reportOf } = await import('../simulation/simulate.js');
    const [first = seed, last = seed] = seeds ?? [];
    for (let each = first; each <= last; each += 1) {
      signal.throwIfAborted();
      const found = await simulate({ seed: each, workers, faults, keepsLines: showEvents });
      const result = found.violation === null ? found : await shrunk(found);
      for (const line of found.lines) print(line);
      const { lines: _lines, ...json } = result;
      show({ text: reportOf(result), json, ...failureOf(result) });
    }
  },
});

function failureOf({ violation, replay }: SimulationResult): { readonly failure?: QianmoError } {
  if (violation === null) return {};
  const failure = errorOf('failed', 'a simulation violates an invariant', {
    expected: violation.invariant,
    found: violation.detail,
    cure: `this is a bug of qianmo; repeat it with \`${replay}\``,
  });
  return { failure };
}

command('version', {
  request: z.strictObject({}),
  about: 'print the version of qianmo',
  takesFormat: true,
  help: '\nExample:\n  qianmo version',
  act: (_request, { show }) => {
    const version = packageVersion();
    show({ text: `qianmo ${version}`, json: { version } });
  },
});
