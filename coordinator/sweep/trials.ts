/** Turns the grids of a sweep into its trials. Each trial is the config of a run of its own. Pure. */

import { isRecord } from '../../shared/base/canonical-json.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { configHash, type RunConfig } from '../../shared/config/run-config.js';
import type { SweepConfig } from '../../shared/config/sweep-config.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { joinAddress } from '../../shared/storage/object-store.js';
import { averagedForm } from './averaged-model.js';

/** The values that the sweep sets, by path of the run config. */
type TrialSettings = Readonly<Record<string, unknown>>;

export interface Trial {
  /** `t01`, `t02`, ... in the order of the grids, the last path varying fastest. */
  readonly name: string;
  readonly settings: TrialSettings;
  readonly config: RunConfig;
  /** The trials of a search whose mean output the model of this one has. */
  readonly averageOf?: readonly string[];
}

/**
 * The sections that can be swept. Data and evaluation must be the same for all trials, and so must the tasks of an
 * outer step, because rungs count outer steps.
 */
const SWEPT_SECTIONS = ['method', 'model', 'seed', 'training'];
const BUDGET_PATHS = ['training', 'training.tasksPerOuterStep', 'training.rowsPerOuterStep'];

/**
 * @param base the run config before it was checked; defaults are filled in after the settings
 * @param where the name of the sweep's file for messages
 * @throws QianmoError of kind `usage` if a path may not be swept, a trial's config is wrong, two trials are
 *   the same run, or there are too many.
 */
export function planTrials(sweep: SweepConfig, base: unknown, where: string): Trial[] {
  const grids = [sweep.grid].flat();
  for (const grid of grids) for (const path of Object.keys(grid)) requireSweptPath(path, where);
  const counts = grids.map((grid) =>
    Object.values(grid).reduce((product, values) => product * values.length, 1),
  );
  const trialCount = counts.reduce((sum, count) => sum + count, 0);
  requireTrialCount(sweep, trialCount, where);
  const digits = Math.max(2, String(trialCount).length);
  const paths = grids.flatMap((grid) => Object.keys(grid));
  const spelledOut = withSectionsOf(base, RUN_CONFIG.check(base, sweep.base), paths);
  const trials = grids.flatMap(settingsOf).map((settings, index): Trial => {
    const name = `t${String(index + 1).padStart(digits, '0')}`;
    const place = `${where}, trial ${name} (${describeSettings(settings)})`;
    const config = RUN_CONFIG.check(withSettings(spelledOut, settings, place), place);
    return { name, settings, config: asTrial(config, sweep, name) };
  });
  requireDistinctRuns(trials, where);
  return trials;
}

/** The outer steps that the rungs divide: those of the longest trial. */
export function outerStepsOf(trials: readonly Trial[]): number {
  return trials.reduce((most, { config }) => Math.max(most, config.training.outerSteps), 0);
}

function requireSweptPath(path: string, where: string): void {
  const [section = ''] = path.split('.');
  const isBudget = BUDGET_PATHS.includes(path);
  if (SWEPT_SECTIONS.includes(section) && !isBudget) return;
  throw new QianmoError({
    kind: 'usage',
    what: isBudget
      ? 'the budget of the trials cannot be swept: all must have the same to be compared'
      : 'this field cannot be swept',
    where: `${where}, grid.${path}`,
    expected: 'paths below method, model and training, or seed',
    found: path,
    cure: isBudget
      ? 'set it in the base config; sweep single fields of training'
      : 'set it in the base config: data, evaluation and queue are the same for every trial',
  });
}

function requireTrialCount({ trialsMax }: SweepConfig, trialCount: number, where: string): void {
  if (trialCount >= 2 && trialCount <= trialsMax) return;
  throw new QianmoError({
    kind: 'usage',
    what:
      trialCount < 2 ? 'there is nothing to choose from' : 'the grid has more trials than allowed',
    where: `${where}, grid`,
    expected: `2 to ${trialsMax} trials (trialsMax)`,
    found: `${trialCount}`,
    cure:
      trialCount < 2
        ? 'set at least two values for one path'
        : 'set fewer values, or raise trialsMax',
  });
}

/** Every combination; the last path varies fastest. */
function settingsOf(grid: Readonly<Record<string, readonly unknown[]>>): TrialSettings[] {
  return Object.entries(grid).reduce<TrialSettings[]>(
    (settings, [path, values]) =>
      settings.flatMap((earlier) => values.map((value) => ({ ...earlier, [path]: value }))),
    [{}],
  );
}

/** The base with the defaults of sections that it leaves out and the sweep has fields of. */
function withSectionsOf(base: unknown, checked: RunConfig, paths: readonly string[]): unknown {
  const sections = paths.flatMap((path) => {
    const fields = path.split('.');
    return fields.slice(1).map((_, index) => fields.slice(0, index + 1));
  });
  return sections.reduce(
    (value, fields) =>
      valueAt(value, fields) === undefined
        ? withValueAt(value, fields, valueAt(checked, fields), fields.join('.'))
        : value,
    base,
  );
}

function valueAt(value: unknown, fields: readonly string[]): unknown {
  return fields.reduce(
    (inner, field) => (isRecord(inner) && Object.hasOwn(inner, field) ? inner[field] : undefined),
    value,
  );
}

function withSettings(base: unknown, settings: TrialSettings, where: string): unknown {
  // A whole section first, then fields within it.
  const paths = Object.keys(settings).sort((a, b) => a.split('.').length - b.split('.').length);
  return paths.reduce(
    (value, path) => withValueAt(value, path.split('.'), settings[path], where),
    base,
  );
}

/** Names of runs stand in keys of the queue, which have no capitals. */
export function runNameOf(sweep: string): string {
  return sweep.toLowerCase();
}

/** The config with a run name and an output of its own. */
export function asTrial(
  config: RunConfig,
  { sweep, output }: Pick<SweepConfig, 'sweep' | 'output'>,
  name: string,
): RunConfig {
  return {
    ...config,
    run: `${runNameOf(sweep)}-${name}`,
    output: joinAddress(output, `trials/${name}`),
    training: { ...config.training, checkpointsKept: 1 },
  };
}

function withValueAt(
  value: unknown,
  [field, ...rest]: readonly string[],
  replacement: unknown,
  where: string,
): unknown {
  if (field === undefined) return replacement;
  if (value !== undefined && !isRecord(value))
    throw errorOf('usage', `"${field}" is no field of what the base config has there`, {
      where,
      expected: 'a section of fields',
      found: JSON.stringify(value),
      cure: 'correct the path, or sweep the whole section',
    });
  const inner = value !== undefined && Object.hasOwn(value, field) ? value[field] : undefined;
  return { ...value, [field]: withValueAt(inner, rest, replacement, where) };
}

function requireDistinctRuns(trials: readonly Trial[], where: string): void {
  const byHash = new Map<string, Trial>();
  for (const trial of trials) {
    const hash = configHash(trial.config);
    const twin = byHash.get(hash);
    byHash.set(hash, trial);
    if (twin === undefined) continue;
    throw errorOf('usage', 'two trials are the same run', {
      where: `${where}, grid`,
      found: `${twin.name} (${describeSettings(twin.settings)}) and ${trial.name} (${describeSettings(trial.settings)})`,
      cure: 'leave one of them out',
    });
  }
}

/** `method fomaml (innerSteps 3), training.optimizer.rate 0.01` */
function describeSettings(settings: TrialSettings): string {
  return Object.entries(settings)
    .map(([path, value]) => `${path} ${describeValue(value)}`)
    .join(', ');
}

/** A section by its kind and its other fields. */
export function describeValue(value: unknown): string {
  if (!isRecord(value)) return typeof value === 'string' ? value : JSON.stringify(value);
  const { kind, ...others } = value;
  const fields = Object.entries(others).map(([field, inner]) => `${field} ${describeValue(inner)}`);
  if (typeof kind !== 'string') return fields.join(', ');
  return fields.length === 0 ? kind : `${kind} (${fields.join(', ')})`;
}

/** The towers of an average stand side by side, and the products of a request grow with the square of their widths. */
const TOWERS_MAX = 2;
const LINEAR_MODELS_MAX = 2;

/**
 * The one model whose output is the mean of those of these trials of a search. A loss that is convex in the output, as
 * logloss and squared error are, is for every row of a mean at most the mean of the losses (Jensen), and errors that
 * members do not share cancel out.
 *
 * @returns null if there is no such model, or it would be too large.
 */
export function averageTrial(
  members: readonly Trial[],
  surroundings: Pick<SweepConfig, 'sweep' | 'output'>,
  name: string,
): Trial | null {
  const configs = members.map(({ config }) => config);
  const form = averagedForm(configs);
  const towerCount = configs.filter(({ model }) => model.hiddenWidths.length > 0).length;
  const isSmall = towerCount <= TOWERS_MAX && configs.length - towerCount <= LINEAR_MODELS_MAX;
  // One that has the kind of method of the average: its training fits it.
  const base = configs.find(({ method }) => method.kind === form?.method.kind);
  if (form === null || base === undefined || !isSmall) return null;
  const { earlyStopping: _stopping, trainable: _all, ...training } = base.training;
  const startFrom = { average: configs.map(({ output }) => output) };
  // Without scores there is no plateau. A refresh trains on at the final share, as after a cosine.
  const { decay } = training.schedule;
  const schedule = {
    ...training.schedule,
    decay: decay === 'plateau' ? ('cosine' as const) : decay,
  };
  const config = {
    ...base,
    training: { ...training, schedule, outerSteps: 0, startFrom },
    ...form,
  };
  const averageOf = members.map((member) => member.name);
  return {
    ...{ name, averageOf },
    settings: { 'made of': `mean of ${averageOf.join(', ')}` },
    config: asTrial(config, surroundings, name),
  };
}
