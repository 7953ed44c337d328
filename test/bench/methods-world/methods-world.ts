/**
 * All methods side by side on the synthetic world. A cell is one log and one task store; each method is trained and
 * evaluated on it, and `compare` finds the differences on the same test rows. A stopped bench resumes from its folder.
 * Writes `infra/results/methods-world.json` and `.md`.
 *
 *   npm run bench -- methods-world --seeds 1,2,3,4,5 --settings strong --rates 0.1
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { WORLD_SETTINGS } from '../../../coordinator/synthesize/synthesis-options.js';
import { compare, evaluate, prepare, synthesize, train } from '../../../infra/library/index.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { RunConfigSchema, type RunConfig } from '../../../shared/config/run-config.js';
import { benchHeader, folderOfCommit } from '../bench-header.js';
import { benchOptions } from '../options/bench-options.js';
import { anySeed, listOf, oneOf, shareOfOne, text, wholeNumber } from '../options/option-values.js';
import { FINETUNED, methodsPage, type WorldCell, type WorldRecord } from './methods-page.js';

/** The run of the first method has the arms that all methods are compared with. */
const FIRST_METHOD = 'fomaml';
const REFERENCE_ARMS = [FINETUNED, 'constant', 'global', 'global-shift', 'oracle'];
const DIGITS = 6;

const section = z.looseObject({});
const WorldSchema = z.looseObject({ model: section, method: section, evaluation: section });
const ChangesSchema = z.record(
  z.string(),
  z.strictObject({ model: section.optional(), method: section.optional() }),
);
const yamlOf = (name: string): unknown =>
  parse(readFileSync(new URL(`test/bench/methods-world/${name}`, packageRoot), 'utf8'));
const world = WorldSchema.parse(yamlOf('world.yaml'));
const changes = ChangesSchema.parse(yamlOf('methods.yaml'));
const methodNames = Object.keys(changes);

const header = benchHeader();
const options = benchOptions(import.meta.url, {
  settings: {
    value: listOf(oneOf(WORLD_SETTINGS)),
    default: 'strong,moderate,homogeneous',
    about: 'settings to run, with commas between them',
  },
  rates: {
    value: listOf(shareOfOne),
    default: '0.1,0.03',
    about: 'click rates, with commas between them',
  },
  seeds: { value: listOf(anySeed), default: '1,2,3,4,5', about: 'seeds, with commas between them' },
  methods: {
    value: listOf(oneOf(methodNames)),
    default: methodNames.join(','),
    about: 'methods to run beside the first, with commas between them',
  },
  rows: { value: wholeNumber(), default: '760000', about: 'rows of the log' },
  adgroups: { value: wholeNumber(), default: '8000', about: 'adgroups of the log' },
  folder: {
    value: text,
    default: folderOfCommit('methods-world', header),
    about: 'folder of what the bench makes meanwhile',
  },
  output: {
    value: text,
    default: new URL('infra/results/', packageRoot).pathname,
    about: 'folder of the record and its page',
  },
});
const { rows, adgroups } = options;
const methods = methodNames.filter(
  (name) => name === FIRST_METHOD || options.methods.includes(name),
);

const cells: WorldCell[] = [];
for (const setting of options.settings)
  for (const clickRate of options.rates)
    for (const seed of options.seeds) cells.push(await keptCell({ setting, clickRate, seed }));
const record: WorldRecord = { rows, adgroups, cells };
mkdirSync(options.output, { recursive: true });
const lines = cells.map((cell) => JSON.stringify(cell));
writeFileSync(
  join(options.output, 'methods-world.json'),
  `{"rows":${rows},"adgroups":${adgroups},"cells":[\n${lines.join(',\n')}\n]}\n`,
);
writeFileSync(join(options.output, 'methods-world.md'), methodsPage(record));
process.stdout.write(methodsPage(record));

interface Place {
  readonly setting: (typeof WORLD_SETTINGS)[number];
  readonly clickRate: number;
  readonly seed: number;
}

async function keptCell(place: Place): Promise<WorldCell> {
  const { setting, clickRate, seed } = place;
  const name = `${rows}-${adgroups}/${setting}-${clickRate}-${seed}`;
  const folder = join(options.folder, name);
  const path = join(folder, `cell-${methods.join('-')}.json`);
  // The file was written from a cell of this form.
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')) as WorldCell;
  mkdirSync(folder, { recursive: true });
  const log = join(folder, 'log.csv');
  for (const method of methods) {
    process.stderr.write(`== ${name}, ${method}\n`);
    const config = configOf(method, seed, folder);
    if (existsSync(join(config.output, 'evaluation.json'))) continue;
    if (!existsSync(join(folder, 'store', 'manifest.json'))) {
      await synthesize({ out: log, rows, adgroups, setting, clickRate, seed });
      await prepare({ config });
      rmSync(log);
    }
    await train({ config, fresh: true });
    await evaluate({ config, fresh: true });
  }
  const cell = await comparedCell(place, folder);
  writeFileSync(path, JSON.stringify(cell));
  return cell;
}

function configOf(method: string, seed: number, folder: string): RunConfig {
  const change = changes[method] ?? {};
  const arms = method === FIRST_METHOD ? {} : { arms: ['meta-unadapted', 'meta-adapted'] };
  return RunConfigSchema.parse({
    ...{ ...world, seed, output: join(folder, method) },
    data: {
      ...section.parse(world['data']),
      logs: join(folder, 'log.csv'),
      store: join(folder, 'store'),
    },
    model: { ...world.model, ...change.model },
    method: change.method ?? world.method,
    evaluation: { ...world.evaluation, ...arms },
  });
}

async function comparedCell(place: Place, folder: string): Promise<WorldCell> {
  const { slices } = await compare({
    runs: [
      ...REFERENCE_ARMS.map((arm) => `${join(folder, FIRST_METHOD)}:${arm}`),
      ...methods.map((method) => `${join(folder, method)}:meta-adapted`),
    ],
  });
  const names = [...REFERENCE_ARMS, ...methods];
  const { commit, date, machine } = header;
  const arms = names.map((name, run) => {
    const difference = slices[0]?.runs[run]?.differences?.logloss ?? null;
    const minusFinetuned =
      difference === null
        ? null
        : {
            value: rounded(difference.value),
            low: rounded(difference.low),
            high: rounded(difference.high),
          };
    const logloss = slices.map(({ runs }) => rounded(runs[run]?.metrics.logloss ?? NaN));
    return [name, { logloss, minusFinetuned }];
  });
  return {
    ...{ ...place, made: `commit ${commit}, ${date}, ${machine}` },
    slices: slices.map(({ name }) => name),
    arms: Object.fromEntries(arms) as WorldCell['arms'],
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(DIGITS));
}
