/** `qianmo simulate`: runs the production runtime in virtual time on a cluster whose faults a seed decides. */

import { z } from 'zod';
import { QianmoError } from '../../library/index.js';
import type { SimulationResult } from '../../simulation/simulate.js';
import { format } from '../command/shared-options.js';
import { flagOption, integerValue, valueOption, verb } from '../command/verb.js';

const SEED_MAX = 2 ** 31;
const WORKERS_MAX = 64;
const SEEDS_EXPECTED = 'expected two seeds with two points between, the smaller first: 0..49';
const FAULTS_EXPECTED = 'expected the numbers of faults with commas between, or none';

/** `3..5` is 3, 4 and 5. */
const SeedsSchema = z
  .string()
  .regex(/^\d{1,9}\.\.\d{1,9}$/, SEEDS_EXPECTED)
  .transform((text) => text.split('..').map(Number))
  .refine(([first = 0, last = 0]) => first <= last, SEEDS_EXPECTED);

const FaultsSchema = z
  .string()
  .regex(/^(none|\d{1,3}(,\d{1,3})*)$/, FAULTS_EXPECTED)
  .transform((text) => (text === 'none' ? [] : text.split(',').map(Number)));

export const simulateVerb = verb({
  name: 'simulate',
  description: 'run coordinators and workers in virtual time, under faults that a seed decides',
  options: {
    seed: valueOption('--seed <seed>', 'decides the faults', integerValue(0, SEED_MAX), {
      defaultText: '0',
    }),
    seeds: valueOption('--seeds <first..last>', 'many seeds in turn', SeedsSchema.optional(), {
      conflictsWith: 'seed',
    }),
    workers: valueOption('--workers <count>', 'number of workers', integerValue(1, WORKERS_MAX), {
      defaultText: '3',
    }),
    faults: valueOption(
      '--faults <numbers>',
      'only these faults of the seed, as 0,2,5; none for an undisturbed run',
      FaultsSchema.optional(),
    ),
    showEvents: flagOption('--show-events', 'print every event, too'),
    format,
  },
  help: `
Checks the invariants of the runtime after every event. The first seed that violates one ends the command with exit
code 1, with the fewest faults that still do, and with the command that repeats it.

Examples:
  qianmo simulate --seed 7 --workers 3
  qianmo simulate --seeds 0..49 --format json`,
  run: async (_operands, options, { print, signal }) => {
    const { simulate, shrunk, reportOf } = await import('../../simulation/simulate.js');
    const { seed, workers, faults, showEvents } = options;
    const [first = seed, last = seed] = options.seeds ?? [];
    for (let each = first; each <= last; each += 1) {
      signal.throwIfAborted();
      const request = { seed: each, workers, faults, keepsLines: showEvents };
      const found = await simulate(request);
      const result = found.violation === null ? found : await shrunk(found);
      for (const line of found.lines) print(line);
      print(options.format === 'json' ? jsonOf(result) : reportOf(result));
      if (result.violation !== null) throw violated(result);
    }
  },
});

function jsonOf({ lines: _lines, ...result }: SimulationResult): string {
  return JSON.stringify(result);
}

function violated({ violation, replay }: SimulationResult): QianmoError {
  return new QianmoError({
    kind: 'failed',
    what: 'a simulation violates an invariant',
    expected: violation?.invariant ?? '',
    found: violation?.detail ?? '',
    cure: `this is a bug of qianmo; repeat it with \`${replay}\``,
  });
}
