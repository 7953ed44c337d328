/** A sweep as one self-contained HTML page: the trials and the course of their scores. */

import { progressChart } from '../page/curve-charts.js';
import { escapeHtml } from '../html-text.js';
import { card, factsHtml, pageHtml, section } from '../page/page-frame.js';
import { htmlTable } from '../table.js';
import { formatCount } from '../text-format.js';
import { outerStepTotal } from '../../sweep/rungs.js';
import {
  isDerived,
  rankedTrials,
  type SweepRecord,
  type TrialRecord,
} from '../../sweep/sweep-record.js';
import { choiceSentence, choiceTable } from './choice-text.js';
import {
  begunTrialCount,
  COLOURED_TRIALS_MAX,
  overtrainedNote,
  rungsText,
  spentMinutes,
  titleOf,
  trialColour,
  trialsTable,
} from './sweep-table.js';

export function sweepHtml(record: SweepRecord): string {
  const title = escapeHtml(titleOf(record));
  const minutes = spentMinutes(record);
  const order = rankedTrials(record);
  return pageHtml(title, [
    `<header><h1>${title}</h1><p>${escapeHtml(rungsText(record))}; base: <code>${escapeHtml(record.base)}</code></p></header>`,
    factsHtml([
      [formatCount(begunTrialCount(record)), 'trials'],
      minutes === null
        ? [formatCount(outerStepTotal(record.rungs)), 'outer steps in all']
        : [minutes.toFixed(1), 'minutes of trials'],
      [formatCount(record.cellsPerTrial), 'adaptation settings tried for each'],
      [
        record.best?.validationLogloss.toFixed(4) ?? '-',
        `best validation ${escapeHtml(record.loss)}`,
      ],
    ]),
    record.best === null
      ? '<p class="note">It is not finished. These are the results so far.</p>'
      : '',
    noteHtml(record),
    section(
      'Scores',
      `Each line is a trial, each dot its score at the end of a rung: ${escapeHtml(record.criterion)}. The best have a colour; a line that ends early belongs to a trial that was stopped.` +
        (order.some(isDerived) ? ' A diamond is a trial that was made of others at the end.' : ''),
      card(scoresChart(order, record)),
    ),
    section(
      'Trials',
      'Best first. Trials that were trained further come before the others.',
      card(htmlTable(trialsTable(record), 'wrapped')),
    ),
    choiceHtml(record),
    bestHtml(record),
  ]);
}

function choiceHtml(record: SweepRecord): string {
  const [sentence, table] = [choiceSentence(record), choiceTable(record)];
  if (sentence === null || table === null) return '';
  return section(
    'The choice',
    `${escapeHtml(sentence)} The shifted trial, averages, then the other trials of the last rung, those of fewer parts first:`,
    card(htmlTable(table)),
  );
}

function noteHtml(record: SweepRecord): string {
  const note = overtrainedNote(record);
  return note === null
    ? ''
    : `<ul class="verdicts"><li class="worse">${escapeHtml(note)}</li></ul>`;
}

/** The best is drawn last, above the others. */
function scoresChart(
  order: readonly TrialRecord[],
  { loss, rungs }: Pick<SweepRecord, 'loss' | 'rungs'>,
): string {
  const end = rungs.at(-1)?.outerSteps ?? 0;
  return progressChart(
    order
      .map((trial, place) => ({
        name: trial.name,
        colour: trialColour(place),
        isFaint: place >= COLOURED_TRIALS_MAX,
        isEndAlone: isDerived(trial),
        points: trial.scores.flatMap(({ outerSteps, validationLogloss }): [number, number][] =>
          validationLogloss === null
            ? []
            : [[isDerived(trial) ? end : outerSteps, validationLogloss]],
        ),
      }))
      .reverse(),
    'outer steps',
    `validation ${loss}`,
  );
}

function bestHtml({ best, trials }: SweepRecord): string {
  const trial = trials.find(({ name }) => name === best?.trial);
  if (best === null || trial === undefined) return '';
  const code = (text: string): string => `<code>${escapeHtml(text)}</code>`;
  return section(
    'The best',
    'The best trial is a run of its own. Its config evaluates what was trained, or trains it again elsewhere.',
    card(
      `<dl><dt>run</dt><dd>${code(trial.run)}</dd><dt>config</dt><dd>${code(best.config)}</dd>` +
        `<dt>output</dt><dd>${code(trial.output)}</dd>` +
        `<dt>meta-parameters</dt><dd>${code(trial.scores.at(-1)?.metaDigest ?? '')}</dd></dl>`,
    ),
  );
}
