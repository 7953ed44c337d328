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
import { averagedForm } from '../averages/averaged-model.js';
import { comparableTrials, indistinctTrials, pairOfKinds } from '../sweep/safe-trials.js';
import type { SweepRecord, TrialRecord } from '../sweep/sweep-record.js';
import { asTrial, type Tower, type Trial } from '../sweep/trials.js';
import { untrained } from './untrained.js';

/** The widths of towers add up, and the products of a request grow with their square. */
const TOWERS_MAX = 2;
const LINEAR_MODELS_MAX = 2;

/**
 * An average for each method of two or more of the trials, the lowest losses first, and that of the best networks of two kinds: they
 * see support rows in two ways, so that their mean gains even where one has a clearly higher loss.
 *
 * @param trials those that have a checkpoint: a search that continues has discarded others when it ended before.
 */
export function averageTrials(
  record: SweepRecord,
  trials: readonly Trial[],
  surroundings: Parameters<typeof asTrial>[1],
): Trial[] {
  const lastRung = record.rungs.length - 1;
  const keptOf = (ranked: readonly TrialRecord[]): Trial[] =>
    ranked.flatMap(({ name }) => trials.find((trial) => trial.name === name) ?? []);
  const indistinct = keptOf(indistinctTrials(record, lastRung));
  const compared = keptOf(comparableTrials(record, lastRung));
  return [...byMethod(indistinct).map(firstTogether), ofTwoKinds(compared, indistinct)]
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

function byMethod(trials: readonly Trial[]): Trial[][] {
  const groups = new Map<string, Trial[]>();
  for (const trial of trials) {
    const key = canonicalJson(trial.config.method);
    groups.set(key, [...(groups.get(key) ?? []), trial]);
  }
  return [...groups.values()];
}

/** None if the search has no such networks. */
function ofTwoKinds(ranked: readonly Trial[], indistinct: readonly Trial[]): Trial[] {
  const pair = pairOfKinds(ranked);
  const linear = indistinct.filter(
    (trial) => !isTower(trial) && trial.config.method.kind === 'global',
  );
  return pair.length === 0 ? [] : grown(pair, linear);
}

/** The trial of the lowest loss that has an average with a later one, and those. */
function firstTogether(trials: readonly Trial[]): Trial[] {
  for (const place of trials.keys()) {
    const members = grown([], trials.slice(place));
    if (members.length > 1) return members;
  }
  return [];
}

/** The members and each of the others that has an average with those before it, within the largest size. */
function grown(members: readonly Trial[], others: readonly Trial[]): Trial[] {
  const found = [...members];
  for (const trial of others) {
    const alike = found.filter((member) => isTower(member) === isTower(trial));
    const hasRoom = alike.length < (isTower(trial) ? TOWERS_MAX : LINEAR_MODELS_MAX);
    const configs = [...found, trial].map(({ config }) => config);
    if (hasRoom && averagedForm(configs) !== null) found.push(trial);
  }
  return found;
}

/** Null for models that have no average with a network of another kind. */
export function towerOf(config: RunConfig): Tower | null {
  const { hiddenWidths, supportInputs } = config.model;
  const { kind: method } = config.method;
  const kind = method === 'global' ? 'global' : method === 'encoder' ? 'generated' : null;
  if (kind === null || hiddenWidths.length === 0 || averagedForm([config]) === null) return null;
  const { smoothing = null, priorRate = null } = supportInputs ?? {};
  return {
    kind,
    layerCount: hiddenWidths.length,
    inputFormula: supportInputs === undefined ? null : canonicalJson([smoothing, priorRate]),
  };
}

function isTower({ config }: Trial): boolean {
  return config.model.hiddenWidths.length > 0;
}

/** Null if these are fewer than two, or no single model is their mean. */
function averageOf(
  members: readonly Trial[],
): { readonly config: RunConfig; readonly members: string[] } | null {
  const form = averagedForm(members.map(({ config }) => config));
  // One that has the kind of method of the average: its training fits it.
  const base = members.find(({ config }) => config.method.kind === form?.method.kind);
  if (form === null || base === undefined || members.length < 2) return null;
  const average = members.map(({ config }) => config.output);
  return {
    config: { ...untrained(base.config, { average }), ...form },
    members: members.map(({ name }) => name),
  };
}
