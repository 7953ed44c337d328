/** A sweep as one HTML page that needs nothing else: the trials and how their scores went. */

import { progressChart } from '../page/curve-charts.js';
import { card, escapeHtml, factsHtml, pageHtml, section, tableHtml } from '../page/page-frame.js';
import { formatCount } from '../text-format.js';
import { outerStepTotal } from '../../sweep/rungs.js';
import { rankedTrials, type SweepRecord, type TrialRecord } from '../../sweep/sweep-record.js';
import { outcomeText, overtrainedNote, rungsText, settingText, sweptPaths } from './sweep-table.js';

/** Trials that have a colour of their own in the plot. */
const COLOURED_TRIALS_MAX = 7;

export function sweepHtml(record: SweepRecord): string {
  const title = `Sweep ${escapeHtml(record.sweep)}`;
  const order = rankedTrials(record);
  return pageHtml(title, [
    `<header><h1>${title}</h1><p>${escapeHtml(rungsText(record))}; base: <code>${escapeHtml(record.base)}</code></p></header>`,
    factsHtml([
      [formatCount(record.trials.length), 'trials'],
      [formatCount(outerStepTotal(record.rungs)), 'outer steps in all'],
      [formatCount(record.cellsPerTrial), 'adaptation settings tried for each'],
      [
        record.best?.validationLogloss.toFixed(4) ?? '-',
        `best validation ${escapeHtml(record.loss)}`,
      ],
    ]),
    record.best === null
      ? '<p class="note">The sweep is not finished: this is what there is so far.</p>'
      : '',
    noteHtml(record),
    section(
      'Scores',
      `Each line is a trial, each dot its score at the end of a rung: ${escapeHtml(record.criterion)}. The best have a colour; a line that ends early was given up.`,
      card(scoresChart(order, record.loss)),
    ),
    section(
      'Trials',
      'Best first; who was trained further stands before who was not.',
      card(trialsHtml(record, order)),
    ),
    bestHtml(record),
  ]);
}

function noteHtml(record: SweepRecord): string {
  const note = overtrainedNote(record);
  return note === null
    ? ''
    : `<ul class="verdicts"><li class="worse">${escapeHtml(note)}</li></ul>`;
}

function colourOf(place: number): string {
  return place < COLOURED_TRIALS_MAX ? `var(--run-${place + 1})` : 'var(--ink-2)';
}

/** The best is drawn last, above the others. */
function scoresChart(order: readonly TrialRecord[], loss: string): string {
  return progressChart(
    order
      .map(({ name, scores }, place) => ({
        name,
        colour: colourOf(place),
        isFaint: place >= COLOURED_TRIALS_MAX,
        points: scores.flatMap(({ outerSteps, validationLogloss }): [number, number][] =>
          validationLogloss === null ? [] : [[outerSteps, validationLogloss]],
        ),
      }))
      .reverse(),
    'outer steps',
    `validation ${loss}`,
  );
}

function trialsHtml(record: SweepRecord, order: readonly TrialRecord[]): string {
  const paths = sweptPaths(record);
  const rows = order.map((trial, place) => {
    const dot = `<span class="dot" style="background:${colourOf(place)}"></span>`;
    const settings = paths.map((path) => `<td>${escapeHtml(settingText(trial, path))}</td>`);
    const scores = record.rungs.map((_, rungIndex) => {
      const score = trial.scores.find((each) => each.rungIndex === rungIndex);
      if (score === undefined) return '<td></td>';
      const text = score.validationLogloss?.toFixed(5) ?? 'diverged';
      const isBest = trial.name === record.best?.trial && rungIndex === record.rungs.length - 1;
      return `<td${isBest ? ' class="best"' : ''}>${text}</td>`;
    });
    return `<tr><td>${dot}${escapeHtml(trial.name)}</td>${scores.join('')}${settings.join('')}<td>${escapeHtml(outcomeText(trial))}</td></tr>`;
  });
  const heads = [
    '<th>trial</th>',
    ...record.rungs.map(
      ({ outerSteps }) =>
        `<th>${escapeHtml(record.loss)}<small>outer step ${formatCount(outerSteps)}</small></th>`,
    ),
    ...paths.map((path) => `<th>${pathHtml(path)}</th>`),
    '<th>adaptation</th>',
  ];
  return tableHtml(heads.join(''), rows);
}

/** The field, and below it the section that it is in. */
function pathHtml(path: string): string {
  const dot = path.lastIndexOf('.');
  const field = escapeHtml(path.slice(dot + 1));
  return dot < 0 ? field : `${field}<small>${escapeHtml(path.slice(0, dot))}</small>`;
}

function bestHtml({ best, trials }: SweepRecord): string {
  const trial = trials.find(({ name }) => name === best?.trial);
  if (best === null || trial === undefined) return '';
  const code = (text: string): string => `<code>${escapeHtml(text)}</code>`;
  return section(
    'The best',
    'A run of its own: its config evaluates what was trained, or trains it anew elsewhere.',
    card(
      `<dl><dt>run</dt><dd>${code(trial.run)}</dd><dt>config</dt><dd>${code(best.config)}</dd>` +
        `<dt>output</dt><dd>${code(trial.output)}</dd>` +
        `<dt>meta-parameters</dt><dd>${code(trial.scores.at(-1)?.metaDigest ?? '')}</dd></dl>`,
    ),
  );
}
