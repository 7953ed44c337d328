/** The reason for the choice of a search: the trials of the last rung held against the lowest loss. */

import {
  isCrossFitted,
  judgingImpressions,
  standardErrorsAllowed,
} from '../../sweep/safe-trials.js';
import type { ComparedTrial, SweepRecord } from '../../sweep/sweep-record.js';
import { BEST_MARK, type Table } from '../table.js';

type Best = NonNullable<SweepRecord['best']>;

/** Null where nothing was chosen yet, and in a sweep, whose best trial is the one with the lowest loss. */
export function choiceSentence(record: SweepRecord): string | null {
  const reason = reasonOf(record);
  const { impressions = [], trainingImpressions = [] } = record.search ?? {};
  if (reason === null || !isCrossFitted(record)) return reason;
  return (
    `${reason} Trials are compared on ${impressions.length} validation adgroups and on ${trainingImpressions.length} training ` +
    'adgroups, each by a model that was trained without its third of them.'
  );
}

function reasonOf(record: SweepRecord): string | null {
  const { best, loss, trials } = record;
  const compared = best?.compared;
  if (best === null || compared === undefined) return null;
  const own = compared.find(({ trial }) => trial === best.trial);
  const lowest = compared.find(({ difference }) => difference === 0);
  if (own === undefined || lowest === undefined) return null;
  if (compared.length === 1) return `${best.trial} is the only trial that was trained to the end.`;
  const allowed = allowedText(standardErrorsAllowed(judgingImpressions(record)));
  const making = makingOf(best.trial, trials);
  if (making !== '')
    return (
      `${making} The ${loss} of ${best.trial} is ` +
      (own === lowest
        ? 'the lowest.'
        : `within two standard errors of the lowest, that of ${lowest.trial}: ${distanceText(own)}`)
    );
  if (own === lowest)
    return `${best.trial} has the lowest ${loss}, and no trial with fewer parts is within ${allowed} of it.`;
  return (
    `${best.trial} has fewer parts than ${lowest.trial}, which has the lowest ${loss}, and is within ${allowed} of it: ` +
    distanceText(own)
  );
}

/** How a trial is made of others; empty for one that was trained. */
function makingOf(name: string, trials: SweepRecord['trials']): string {
  const { averageOf, shiftOf } = trials.find((trial) => trial.name === name) ?? {};
  if (shiftOf !== undefined)
    return [
      `${name} is ${shiftOf} with a shift of each adgroup's level.`,
      makingOf(shiftOf, trials),
    ]
      .filter((sentence) => sentence !== '')
      .join(' ');
  if (averageOf === undefined) return '';
  const towers = trials.flatMap((trial) =>
    averageOf.includes(trial.name) ? (trial.tower?.kind ?? []) : [],
  );
  const why =
    new Set(towers).size > 1
      ? 'networks that use support rows in two ways'
      : 'which validation cannot tell apart';
  return `${name} is one model with the mean output of ${averageOf.join(', ')}, ${why}.`;
}

function distanceText({ difference, standardError }: ComparedTrial): string {
  return `${difference.toFixed(5)} above, with a standard error of ${standardError.toFixed(5)}, paired by adgroup.`;
}

/** One, or more where few adgroups have most of the impressions. */
function allowedText(standardErrors: number): string {
  const text = standardErrors.toFixed(2);
  return text === '1.00' ? 'one standard error' : `${text} standard errors`;
}

/** The shifted trial, averages, then the others, those of fewer parts first. */
export function choiceTable({ best, trials, loss }: SweepRecord): Table | null {
  const compared = best?.compared;
  if (best === null || compared === undefined) return null;
  return {
    columns: [
      { title: 'trial', alignment: 'left' },
      { title: `validation ${loss}` },
      { title: 'above the lowest' },
      { title: 'standard error' },
    ],
    rows: compared.map(({ trial, difference, standardError }) => [
      markedTrial(best, trial),
      trials
        .find(({ name }) => name === trial)
        ?.scores.at(-1)
        ?.validationLogloss?.toFixed(5) ?? '-',
      difference.toFixed(5),
      standardError.toFixed(5),
    ]),
  };
}

function markedTrial(best: Best, trial: string): string {
  return trial === best.trial ? `${trial} ${BEST_MARK}` : trial;
}
