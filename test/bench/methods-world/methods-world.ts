/**
 * All methods side by side on the synthetic world. Each cell is the whole job for each method, run
 * by the `qianmo` command as a user would, on one task store. Results in
 * `infra/results/methods-world.json` with the current settings are not run again, unless `--fresh`
 * requests it for those of another commit. The page `infra/results/methods-world.md` is made from
 * all recorded cells.
 *
 *   npm run bench -- methods-world --seeds 1,2,3,4,5 --settings strong --rates 0.1 --minutes 60
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readEvaluatedRun } from '../../../coordinator/comparison/evaluated-run.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemClock } from '../../../shared/base/clock.js';
import {
  openObjectStore,
  s3OptionsOf,
  StorageConfigSchema,
} from '../../../shared/storage/open-object-store.js';
import { benchHeader, folderOfCommit } from '../bench-header.js';
import { keepCell, keptCell, keptCells, type KeptCell } from './kept-cells.js';
import { cellFolder, runMethod, type RunOptions } from './method-runs.js';
import { FINETUNED, methodsPage, PLAIN_MAML, whatMustHold, type Group } from './methods-table.js';
import { pairedSlices } from './paired-scores.js';
import { FIRST_METHOD, REFERENCE_ARMS, WorldMethods, type Cell } from './world-methods.js';
import { benchOptions } from '../options/bench-options.js';
import {
  amount,
  asWritten,
  listOf,
  oneOf,
  rowsAsWritten,
  anySeed,
  shareOfOne,
  text,
  wholeNumber,
} from '../options/option-values.js';

const SETTINGS = ['strong', 'moderate', 'homogeneous'];
const CLICK_RATES = [0.1, 0.03];
const SEEDS = [1, 2, 3, 4, 5];
/** The method that the project recommends where adgroups differ. */
const OFFERED = 'shifts-by-evidence';
const AGAINST_MAML = ['paml-rate', OFFERED];

const header = benchHeader();
const methods = WorldMethods.ofProject();
const options = benchOptions(import.meta.url, {
  settings: {
    value: listOf(oneOf(SETTINGS)),
    default: SETTINGS.join(','),
    about: 'settings to run, with commas between them',
  },
  rates: {
    value: listOf(shareOfOne),
    default: CLICK_RATES.join(','),
    about: 'click rates, with commas between them',
  },
  seeds: {
    value: listOf(anySeed),
    default: SEEDS.join(','),
    about: 'seeds, with commas between them',
  },
  methods: {
    value: listOf(oneOf(methods.names)),
    default: methods.names.join(','),
    about: 'methods to run, with commas between them',
  },
  rows: { value: rowsAsWritten, default: '760000', about: 'rows of the log' },
  adgroups: { value: asWritten(wholeNumber()), default: '8000', about: 'adgroups of the log' },
  folder: {
    value: text,
    default: folderOfCommit('methods-world', header),
    about: 'folder of what the bench makes meanwhile',
  },
  workers: { value: asWritten(wholeNumber(0)), default: '2', about: 'workers of each run' },
  minutes: {
    value: amount(),
    default: '100000',
    about: 'minutes after which no further run starts; finished ones are kept',
  },
  fresh: { type: 'boolean', default: false, about: 'runs again what is recorded' },
  page: {
    type: 'boolean',
    default: false,
    about: 'makes the page from the recorded cells and runs nothing',
  },
});

const startedMs = systemClock.monotonicMs();
const isTimeLeft = (): boolean => systemClock.monotonicMs() - startedMs < 60_000 * options.minutes;
const wanted = options.methods;
const digestOf = (arm: string): string =>
  methods.digestOf(isReference(arm) ? FIRST_METHOD : arm, options);

function isReference(arm: string): boolean {
  return REFERENCE_ARMS.some((name) => name === arm);
}

/** False when the time was up before the cell was complete. */
async function makeCell(cell: Cell, runOptions: RunOptions): Promise<boolean> {
  const kept = keptCell(cell);
  const arms = currentArms(kept);
  const missing = wanted.filter(
    (name) => !arms.has(name) || (options.fresh && kept?.arms[name]?.commit !== header.commit),
  );
  if (missing.length === 0) return true;
  // They are compared on the same rows, so their runs must exist.
  const references = [FIRST_METHOD, ...(wanted.includes(PLAIN_MAML) ? [PLAIN_MAML] : [])];
  const needed = [...new Set([...references, ...missing])];
  for (const name of needed) {
    if (!isTimeLeft()) return false;
    runMethod(methods, name, cell, runOptions);
  }
  await compareCell(cell, needed, runOptions);
  return true;
}

async function compareCell(
  cell: Cell,
  names: readonly string[],
  runOptions: RunOptions,
): Promise<void> {
  const folder = cellFolder(cell, runOptions);
  const storage = s3OptionsOf(StorageConfigSchema.parse({}));
  const read = (name: string): ReturnType<typeof readEvaluatedRun> =>
    readEvaluatedRun(openObjectStore(join(folder, name), storage));
  const first = await read(FIRST_METHOD);
  const arms = new Map<string, Float32Array>();
  const add = (name: string, logits: Float32Array | undefined): void => {
    if (logits === undefined) throw new Error(`the run of ${name} lacks its arm`);
    arms.set(name, logits);
  };
  for (const arm of REFERENCE_ARMS) add(arm, first.logits.logits.get(arm));
  for (const name of names) add(name, (await read(name)).logits.logits.get('meta-adapted'));
  const { report, logits } = first;
  const slices = pairedSlices(
    logits,
    arms,
    [FINETUNED, PLAIN_MAML].filter((name) => arms.has(name)),
    {
      sizeBucketEdges: methods.sizeBucketEdges,
      samples: report.bootstrapSamples,
      confidence: report.confidence,
      seed: cell.seed,
    },
  );
  keepCell(cell, slices, digestOf, header);
}

/** Arms whose figures were made with the current settings. */
function currentArms(cell: KeptCell | null): Set<string> {
  return new Set(
    Object.entries(cell?.arms ?? {})
      .filter(([name, { digest }]) => {
        const isKnown = isReference(name) || methods.names.includes(name);
        return isKnown && digest === digestOf(name);
      })
      .map(([name]) => name),
  );
}

function groupsOfKept(): Group[] {
  const kept = keptCells().map((cell) => {
    const current = currentArms(cell);
    const arms = Object.entries(cell.arms).filter(([name]) => current.has(name));
    return { ...cell, arms: Object.fromEntries(arms) };
  });
  return SETTINGS.flatMap((setting) =>
    CLICK_RATES.map((clickRate): Group => {
      const cells = kept.filter(
        (cell) =>
          cell.setting === setting &&
          cell.clickRate === clickRate &&
          Object.keys(cell.arms).length > 0,
      );
      const title = `${setting}, click rate ${Math.round(100 * clickRate)} %`;
      return { title, cells, seeds: cells.map(({ seed }) => seed) };
    }),
  );
}

function writePage(): void {
  const groups = groupsOfKept();
  const made = new Set(
    groups.flatMap(({ cells }) =>
      cells.flatMap(({ arms }) =>
        Object.values(arms).map(
          ({ commit, date, machine }) => `commit ${commit}, ${date}, ${machine}`,
        ),
      ),
    ),
  );
  const missing = groups.flatMap(({ title, seeds }) => {
    const without = SEEDS.filter((seed) => !seeds.includes(seed));
    return without.length === 0 ? [] : [`${title}: seeds ${without.join(', ')}`];
  });
  const introduction = [
    `Each world has ${options.rows} rows and ${options.adgroups} adgroups. All figures are of the test adgroups. The gap closed is`,
    '(logloss of global - logloss of the arm) / (logloss of global - logloss of the oracle), averaged over seeds.',
    'Differences are per impression, as means over seeds, with 95 % intervals from the paired bootstrap of each seed over',
    'adgroups; below 0 is better. Every arm chose its settings from a grid of the same size on validation adgroups. The',
    'page is made by `npm run bench -- methods-world`, which stores the figures of each cell in `methods-world.json` and computes',
    'the missing ones.',
    '',
    'Computed at:',
    ...[...made].sort().map((each) => `- ${each}`),
  ];
  const claims = whatMustHold(groups, OFFERED, SEEDS.length).map(({ claim, holds }) => {
    const words =
      holds === null ? 'not violated so far, but cells are missing' : holds ? 'yes' : 'no';
    return `- ${claim}: ${words}`;
  });
  const footer = [
    '## Requirements',
    '',
    ...claims,
    ...(missing.length === 0
      ? []
      : ['', 'Cells not computed yet:', ...missing.map((m) => `- ${m}`)]),
  ];
  const page = methodsPage(groups, {
    header: introduction,
    arms: [...REFERENCE_ARMS, ...methods.names],
    offered: OFFERED,
    againstMaml: AGAINST_MAML,
    footer,
  });
  writeFileSync(new URL('infra/results/methods-world.md', packageRoot), page);
  process.stdout.write(page);
}

function cellsAsked(): Cell[] {
  return options.settings.flatMap((setting) =>
    options.rates.flatMap((clickRate) =>
      options.seeds.map((seed) => ({ setting, clickRate, seed })),
    ),
  );
}

if (!options.page) for (const cell of cellsAsked()) if (!(await makeCell(cell, options))) break;
writePage();
