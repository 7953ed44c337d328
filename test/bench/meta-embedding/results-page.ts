/**
 * Formats the results page of the reproduction: DeepFM in each setting, then the other base models.
 */

import type { BaseModelName } from './base-models.js';
import { modelsTable } from './loglosses-by-model.js';
import type { MeasuredRun } from './results-record.js';
import { seedTable, settingTable, verdictLine, verdictOf } from './results-table.js';

const SETTINGS = [
  {
    name: 'own-default',
    title: "The project's own default: shuffled rows, lazy Adam, early stopping",
  },
  {
    name: 'published',
    title: 'The published setting: rows in the recovered order, dense Adam, one pass',
  },
] as const;

/** @param runs in the order in which they are shown */
export function resultsPage(runs: readonly MeasuredRun[]): string {
  const others = runs.filter(({ setting }) => setting === 'published');
  return [
    '# Meta-Embedding on MovieLens 1M',
    '',
    'This page reproduces Pan et al. (SIGIR 2019) with embeddings of width 128. The models predict 123,787 held-out rows of',
    '1,127 new films, cold and after one step on each of three blocks of 20 rows. `npm run reproduce:meta-embedding` repeats',
    'the runs and replaces only the results of the runs that it made. The data must not be distributed and is read from',
    '`../shared`. Notes and further measurements are in [meta-embedding-notes.md](meta-embedding-notes.md).',
    '',
    ...SETTINGS.flatMap(({ name, title }) => {
      const seeds = runs.filter(({ model, setting }) => model === 'deepfm' && setting === name);
      if (seeds.length === 0) return [];
      return [
        `## ${title}`,
        '',
        `DeepFM. ${circumstances(seeds)}`,
        '',
        ...settingTable(name, seeds),
        '',
        verdictLine(name, verdictOf(seeds)),
        '',
        ...seedTable(seeds),
        '',
      ];
    }),
    ...(others.some(({ model }) => model !== 'deepfm') ? modelsSection(others) : []),
  ].join('\n');
}

function modelsSection(runs: readonly MeasuredRun[]): string[] {
  const byModel = new Map<BaseModelName, MeasuredRun[]>();
  for (const run of runs) byModel.set(run.model, [...(byModel.get(run.model) ?? []), run]);
  return [
    '## Base models in the published setting',
    '',
    circumstances(runs),
    '',
    'The last four columns show the change of logloss relative to the cold base model, for base / Meta-Embedding. The cold',
    'column shows Meta-Embedding only, with the range of the seeds in brackets. The published figures are means of runs of',
    'width 256.',
    '',
    ...modelsTable(byModel),
    '',
  ];
}

/** `Commit abc, 2026-11-25, a machine (seeds 0, 1).`, once for each distinct combination. */
function circumstances(runs: readonly MeasuredRun[]): string {
  const runsByText = new Map<string, MeasuredRun[]>();
  for (const run of runs) {
    const text = `commit ${run.commit}, ${run.date}, ${run.machine}`;
    runsByText.set(text, [...(runsByText.get(text) ?? []), run]);
  }
  const nameOf = ({ model, seed }: MeasuredRun): string => `${model} ${seed}`;
  const parts = [...runsByText].map(([text, own]) =>
    runsByText.size === 1 ? text : `${text} (${own.map(nameOf).join(', ')})`,
  );
  const all = parts.join('; ');
  return `${all.charAt(0).toUpperCase()}${all.slice(1)}.`;
}
