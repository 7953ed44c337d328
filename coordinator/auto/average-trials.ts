/**
 * The averages that a search tries at its end: of trials that validation adgroups cannot tell apart, the one model whose output
 * is the mean of theirs.
 *
 * A loss that is convex in the output, as logloss and squared error are, is for every row of a mean at most the mean
 * of the losses (Jensen), so that an average is never worse than a member drawn at random, on any adgroups; and errors
 * that members do not share cancel out. Weights are equal, because adgroups that cannot tell members apart say
 * little about weights. Pure.
 */

import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { averagedModel } from '../averages/averaged-model.js';
import { indistinctTrials } from '../sweep/safe-trials.js';
import type { SweepRecord } from '../sweep/sweep-record.js';
import { asTrial, type Trial } from '../sweep/trials.js';
import { untrained } from './untrained.js';

/** The widths of towers add up, and the products of a request grow with their square. */
const TOWERS_MAX = 2;
const LINEAR_MODELS_MAX = 2;

/**
 * An average for each method of two or more of the trials, the lowest losses first.
 *
 * @param trials those that have a checkpoint: a search that continues has discarded others when it ended before.
 */
export function averageTrials(
  record: SweepRecord,
  trials: readonly Trial[],
  surroundings: Parameters<typeof asTrial>[1],
): Trial[] {
  const byMethod = new Map<string, Trial[]>();
  for (const { name } of indistinctTrials(record, record.rungs.length - 1)) {
    const trial = trials.find((each) => each.name === name);
    if (trial === undefined || !isOneOutput(trial.config)) continue;
    const key = canonicalJson(trial.config.method);
    byMethod.set(key, [...(byMethod.get(key) ?? []), trial]);
  }
  return [...byMethod.values()]
    .map(withinSize)
    .flatMap((members) => averageOf(members) ?? [])
    .map(({ config, members }, index): Trial => {
      const name = `a${String(index + 1).padStart(2, '0')}`;
      return {
        name,
        settings: { 'made of': `mean of ${members.join(', ')}` },
        config: asTrial(config, surroundings, name),
        averageOf: members,
      };
    });
}

/** Blocks of an adgroup are parts of one model, and have no mean. */
function isOneOutput({ method, model }: RunConfig): boolean {
  return method.kind === 'global' || model.personal.length === 0;
}

function withinSize(trials: readonly Trial[]): Trial[] {
  const isTower = ({ config }: Trial): boolean => config.model.hiddenWidths.length > 0;
  const towers = trials.filter(isTower).slice(0, TOWERS_MAX);
  const linear = trials.filter((trial) => !isTower(trial)).slice(0, LINEAR_MODELS_MAX);
  return trials.filter((trial) => towers.includes(trial) || linear.includes(trial));
}

/** Null if these are fewer than two, or no single model is their mean. */
function averageOf(
  members: readonly Trial[],
): { readonly config: RunConfig; readonly members: string[] } | null {
  const [first] = members;
  const model = averagedModel(members.map(({ config }) => config.model));
  if (first === undefined || members.length < 2 || model === null) return null;
  const average = members.map(({ config }) => config.output);
  return {
    config: { ...untrained(first.config, { average }), model },
    members: members.map(({ name }) => name),
  };
}
