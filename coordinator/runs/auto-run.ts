/** Searches for the config of a run: its own trials on the machinery of a sweep. */

import { isRecord } from '../../shared/base/canonical-json.js';
import { QianmoError } from '../../shared/base/errors.js';
import { declaredFeatures } from '../../shared/config/data-config.js';
import { SEARCH_TRIALS } from '../../shared/config/auto-config.js';
import { checkedRunConfig, loadUncheckedRunConfig } from '../../shared/config/load-run-config.js';
import { configHash, type RunConfig } from '../../shared/config/run-config.js';
import { labelOf } from '../../shared/tasks/task-label.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { candidatesOf, commonTraining, type DataFacts } from '../sweep/search-space.js';
import { validationTasksOf } from '../evaluation/validation-score.js';
import { clicksOf, smoothedRate } from '../scoring/held-out-rows.js';
import type { SweepRecord } from '../sweep/sweep-record.js';
import { asTrial, type Trial } from '../sweep/trials.js';
import type { RunContext } from './run-context.js';
import { interruptedAs } from './run-handle.js';
import { OBJECT_PLACE } from './config-sources.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import { configReaderOf, searchOutputOf } from './places.js';
import type { RequestOf } from './requests.js';
import { openStoreAsPrepared } from './run-files.js';
import { sweepTrials, type PlannedSweep } from './sweep-run.js';

type AutoOrder = RequestOf<'auto'>;

/** The grid of inner steps of configs that name none: each cell is computed for every trial that adapts. */
const GRID = { innerRates: [0.03, 0.1, 0.3, 1], innerSteps: [1, 3, 10] };

export async function autoRun(request: AutoOrder, context: RunContext): Promise<SweepRecord> {
  const { config: source } = request;
  const place = typeof source === 'string' ? source : OBJECT_PLACE;
  const given =
    typeof source === 'string'
      ? await loadUncheckedRunConfig(source, configReaderOf(context.environment))
      : source;
  const own = checkedRunConfig(given, place);
  const fields: Fields = isRecord(given) ? given : {};
  const output = searchOutputOf(own.output);
  const logged = loggedCallOf('auto', { ...own, output });
  const searching = loggedRun(logged, context, async (inner) => {
    const store = await openStoreAsPrepared(own, inner);
    const planned = await plannedSearch({ own, fields, place, output }, request, store);
    return sweepTrials(planned, store, request, inner);
  });
  return interruptedAs(searching, () => ({
    what: 'the search was stopped; its scores and the checkpoints of unfinished trials are kept',
    where: output,
    cure: 'continue with `qianmo auto run.yaml --resume`',
  }));
}

type Fields = Readonly<Record<string, unknown>>;

interface Searched {
  /** The run config with its defaults, of which the search takes data, seed and surroundings. */
  readonly own: RunConfig;
  /** The fields that the config has by itself. */
  readonly fields: Fields;
  readonly place: string;
  readonly output: string;
}

async function plannedSearch(
  searched: Searched,
  request: AutoOrder,
  store: TaskStore,
): Promise<PlannedSweep> {
  const { own, place, output } = searched;
  requireFeatures(own, store);
  const sweep = searchNameOf(own.run);
  const segment = own.auto?.segment;
  const facts = await factsOf(own, store, segment ?? null);
  const trialsMax = request.trialsMax ?? own.auto?.trialsMax ?? SEARCH_TRIALS.usual;
  const trials = trialsOf(searched, { sweep, facts, trialsMax });
  const outerSteps = trials[0]?.config.training.outerSteps ?? 0;
  return {
    kind: 'search',
    sweep: {
      ...{ sweep, base: place, output, concurrentTrials: concurrentTrialsOf(request) },
      trialsKept: trials.length,
      ...(segment === undefined ? {} : { segment }),
    },
    ...{ base: own, trials, rungs: [{ outerSteps, trialCount: trials.length }] },
  };
}

/** The section `auto` adds target encodings to the data: a store that was prepared without it lacks them. */
function requireFeatures({ data }: RunConfig, { manifest }: TaskStore): void {
  const found = new Set(manifest.features.map(({ name }) => name));
  const missing = declaredFeatures(data).filter(({ name }) => !found.has(name));
  if (missing.length === 0) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'the task store lacks features of the config',
    where: data.store,
    expected: missing.map(({ name }) => name).join(', '),
    found: 'a store that was prepared from another config, such as one without the section auto',
    cure: 'prepare it again: qianmo prepare run.yaml',
  });
}

/** With room for the names of trials. A run that is named for the search already is not named for it twice. */
function searchNameOf(run: string): string {
  return `${run.slice(0, 45).replace(/-auto$/, '')}-auto`;
}

/** A small trial leaves processes idle between its outer steps. A single one computes one job at a time. */
function concurrentTrialsOf({ processes, workers }: AutoOrder): number {
  return (processes ?? workers) === 1 ? 1 : 2;
}

async function factsOf(
  own: RunConfig,
  store: TaskStore,
  segment: string | null,
): Promise<DataFacts> {
  const [first = 0] = validationTasksOf(store, own.data.store, segment);
  const { labelIndex = 0 } = store.tasks[first] ?? {};
  const train = store.tasks.filter((task) => task.split === 'train');
  const scored = train.filter((task) => (task.labelIndex ?? 0) === labelIndex);
  const isOfClicks = labelOf(store.manifest, { labelIndex }).loss !== 'squared';
  const queryRows = train.reduce((sum, { queryRowCount }) => sum + queryRowCount, 0);
  const counted = await clicksOf(
    store,
    scored.map(({ taskIndex }) => taskIndex),
  );
  return {
    segment,
    trainTaskCount: train.length,
    queryRowsPerTask: queryRows / Math.max(1, train.length),
    impressions: counted.impressions,
    clickRate: isOfClicks ? smoothedRate(counted) : null,
  };
}

interface TrialChoice {
  readonly sweep: string;
  readonly facts: DataFacts;
  readonly trialsMax: number;
}

/** Each is a run of its own. What the config says of training holds for all of them, but for what they try. */
function trialsOf(
  { own, fields, place, output }: Searched,
  { sweep, facts, trialsMax }: TrialChoice,
): Trial[] {
  const ownTraining = sectionOf(fields, 'training');
  const common = { ...commonTraining(facts), ...ownTraining };
  const evaluation = { ...GRID, ...sectionOf(fields, 'evaluation') };
  const { auto: _searched, method: _method, model: _model, ...others } = fields;
  const rest = { ...others, data: own.data };
  const candidates = [...(hasOwnModel(fields) ? [null] : []), ...candidatesOf(facts, trialsMax)];
  const seen = new Set<string>();
  return candidates.slice(0, trialsMax).flatMap((candidate, index): Trial[] => {
    const name = `t${String(index + 1).padStart(2, '0')}`;
    const sections =
      candidate === null
        ? { model: own.model, method: own.method, training: common }
        : { ...candidate, training: { ...common, ...candidate.training } };
    const { model, method, training } = sections;
    const value = { ...rest, evaluation, model, method, training };
    const config = checkedRunConfig(value, `${place}, trial ${name} of the search`);
    const hash = configHash(config);
    if (seen.has(hash)) return [];
    seen.add(hash);
    const settings = candidate?.words ?? { model: 'as the config says' };
    return [{ name, settings, config: asTrial(config, { sweep, output }, name) }];
  });
}

function sectionOf(fields: Fields, name: string): Fields {
  const section = fields[name];
  return isRecord(section) ? section : {};
}

/** Whether the config names a model or a method of its own, which is then tried first. */
function hasOwnModel({ model, method }: Fields): boolean {
  const isChosen = isRecord(method) && method['kind'] !== 'auto';
  return isChosen || model !== undefined;
}
