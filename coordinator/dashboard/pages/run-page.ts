/** The page of one run: its state, its course, its workers, and what it has written. */

import { escapeHtml } from '../../reports/html-text.js';
import { durationText } from '../../reports/record/duration-text.js';
import { formatCount } from '../../reports/text-format.js';
import type { RunHistory } from '../../record/history/run-history.js';
import { isUnderWay } from '../../record/run-state.js';
import type { RunStatus } from '../../record/run-status.js';
import type { TrainingView } from '../../../shared/events/run-reducer.js';
import { sentenceOf } from '../../../shared/events/run-events.js';
import {
  facts,
  nothing,
  regionTable,
  sectionHtml,
  stateBadge,
  timeText,
  type Html,
} from './elements.js';
import type { Page, PagePart } from './page.js';
import { runCharts, timeFigure } from './run-charts.js';
import { workersHtml } from './run-workers.js';

interface ShownRun {
  readonly status: RunStatus;
  readonly history: RunHistory;
}

/** Additions of a server to the page, which a file lacks. */
interface ServedRun {
  /** Forms that control the run, and the answer to the last one; empty where they are not allowed. */
  readonly controlHtml: string;
  readonly configHtml: string;
  /** Reports that lie in the output. */
  readonly links: readonly Html[];
}

export function runPage(run: ShownRun, served: ServedRun): Page {
  const { status, history } = run;
  const name = status.run ?? status.output;
  const { controlHtml, configHtml } = served;
  return {
    title: `${name}, ${status.state}`,
    place: '/runs',
    parts: [
      { id: 'head', html: headHtml(status, name) },
      { id: 'state', html: stateHtml(run), isAnnounced: true },
      { id: 'orders', html: controlHtml },
      { id: 'facts', html: factsHtml(run) },
      ...coursePartsOf(history),
      { id: 'workers', html: sectionHtml('Workers', workersHtml(history, status.state)) },
      { id: 'outcomes', html: outcomesHtml(run) },
      { id: 'saved', html: savedHtml(history, served.links) },
      { id: 'config', html: sectionHtml('Config', configHtml) },
      {
        id: 'log',
        html: sectionHtml('Log', logHtml(history), 'The last events, in universal time.'),
      },
    ],
  };
}

/** Drawings of a history that has not changed are not drawn again. */
const drawn = new WeakMap<RunHistory, readonly PagePart[]>();

function coursePartsOf(history: RunHistory): readonly PagePart[] {
  const known = drawn.get(history);
  if (known !== undefined) return known;
  const charts = runCharts(history);
  const parts = [
    {
      id: 'course',
      html: sectionHtml('Course', charts === '' ? nothing('No outer step has ended yet.') : charts),
    },
    { id: 'time', html: sectionHtml('Where the time goes', timeFigure(history)) },
  ];
  drawn.set(history, parts);
  return parts;
}

function headHtml({ output }: RunStatus, name: string): string {
  return `<p class="crumbs">${escapeHtml(output)}</p><h1>${escapeHtml(name)}</h1>`;
}

function stateHtml({ status }: ShownRun): string {
  const { state, ending, call } = status;
  const words = [STATE_WORDS[state]];
  if (call !== null)
    words.push(
      `Call ${call.name}, process ${call.process.pid} on ${call.process.host}, since ${timeText(call.sinceMs)} UTC.`,
    );
  const reason =
    ending?.kind === 'failed'
      ? `<p class="reason">${escapeHtml(`${ending.failure}: ${ending.reason}`)}</p>`
      : '';
  return `<div class="stateline">${stateBadge(state).html}<p>${escapeHtml(words.join(' '))}</p></div>${reason}`;
}

const STATE_WORDS: Readonly<Record<RunStatus['state'], string>> = {
  running: 'It lives, and something has moved lately.',
  'waiting for workers': 'It has jobs, and no worker has finished one since it began to wait.',
  paused: 'Somebody paused it.',
  stalled: 'It lives, and nothing moves.',
  finished: 'Its last call ended without a failure.',
  failed: 'Its last call ended with a failure.',
  interrupted: 'It was stopped, and can be resumed.',
  lost: 'It never said that it ended, and its process is gone. It can be resumed.',
};

function factsHtml({ status, history }: ShownRun): string {
  const { training, stage, leftMs, outerStepMs, silentMs, state, validation } = status;
  const shown: [string, string, string?][] = [];
  if (training !== null)
    shown.push([
      formatCount(training.outerStep),
      `of ${formatCount(training.outerSteps)} outer steps`,
    ]);
  if (stage !== null && isUnderWay(state))
    shown.push([
      stage.total === null ? formatCount(stage.done) : `${stage.done}/${stage.total}`,
      stage.stage,
    ]);
  if (leftMs !== null) shown.push([durationText(leftMs), 'left at this pace']);
  if (outerStepMs !== null) shown.push([durationText(outerStepMs), 'an outer step']);
  const { tasksPerSecond = null } = training ?? {};
  if (training !== null) shown.push(...lossFacts(training));
  if (tasksPerSecond !== null) shown.push([formatCount(tasksPerSecond), 'tasks/s']);
  if (validation !== null)
    shown.push([
      validation.bestLoss.toFixed(4),
      'best validation loss',
      `step ${validation.bestOuterStep}`,
    ]);
  const present = history.workers.filter(({ state }) => state !== 'stopped' && state !== 'exited');
  if (isUnderWay(state) && history.workers.length > 0)
    shown.push([formatCount(present.length), 'workers in the log']);
  const lastEvent = timeText(status.lastEventMs ?? 0);
  if (isUnderWay(state)) shown.push([durationText(silentMs), 'since the last event']);
  else shown.push([lastEvent.slice(0, 10), 'last event', `${lastEvent.slice(11)} UTC`]);
  return progressHtml(status) + facts(shown);
}

function lossFacts(training: TrainingView): [string, string, string?][] {
  const { queryLoss, supportLoss, adaptation } = training;
  const shown: [string, string, string?][] = [];
  if (queryLoss !== null) shown.push([queryLoss.toFixed(4), 'query loss after adaptation']);
  if (adaptation !== null) {
    const { outerStep, queryLossBefore, queryLossAfter } = adaptation;
    const change = `${queryLossAfter.toFixed(4)} after, in step ${formatCount(outerStep)}`;
    shown.push([queryLossBefore.toFixed(4), 'query loss before adaptation', change]);
  } else if (supportLoss !== null)
    shown.push([supportLoss.toFixed(4), 'support loss before adaptation']);
  return shown;
}

function progressHtml({ training }: RunStatus): string {
  if (training === null || training.outerSteps === 0) return '';
  const { outerStep, outerSteps } = training;
  return `<progress max="${outerSteps}" value="${outerStep}" aria-label="Outer steps">${outerStep} of ${outerSteps}</progress>`;
}

function outcomesHtml({ status, history }: ShownRun): string {
  const refused = Object.entries(status.refusedResultCounts);
  const retried = Object.entries(history.retriedJobCounts);
  const rows = [
    ...refused.map(([reason, count]) => [`results refused: ${reason}`, formatCount(count)]),
    ...retried.map(([cause, count]) => [`jobs sent again: ${cause}`, formatCount(count)]),
  ];
  const slow = history.slowJobs.map(({ outerStep, jobIndex, worker, heldMs }) => [
    String(outerStep),
    String(jobIndex),
    worker,
    durationText(heldMs),
  ]);
  const tables = [
    rows.length === 0
      ? ''
      : regionTable({
          label: 'Refusals and repeats by reason',
          columns: [['what happened', 'text'], ['count']],
          rows,
        }),
    slow.length === 0
      ? ''
      : '<h3>Stragglers: jobs of which an idle worker got a copy</h3>' +
        regionTable({
          label: 'Stragglers',
          columns: [['outer step', 'text'], ['job'], ['slow worker', 'text'], ['held for']],
          rows: slow,
        }),
  ].join('');
  return sectionHtml(
    'Refusals and stragglers',
    tables === ''
      ? nothing('No result was refused, no job was sent again, and none had a copy.')
      : tables,
  );
}

function savedHtml({ checkpoints, reports }: RunHistory, links: readonly Html[]): string {
  const table =
    checkpoints.length === 0
      ? nothing('No checkpoint yet.')
      : regionTable({
          label: 'Checkpoints',
          columns: [
            ['outer step', 'text'],
            ['saved, UTC', 'text'],
            ['digest of the meta-parameters', 'wrap'],
          ],
          rows: checkpoints.map(({ outerStep, digest, epochMs }) => [
            String(outerStep),
            timeText(epochMs),
            { html: `<code>${escapeHtml(digest)}</code>` },
          ]),
        });
  const written = links.length > 0 ? links.map(({ html }) => html) : reports.map(escapeHtml);
  const list =
    written.length === 0
      ? ''
      : `<h3>Reports</h3><ul>${written.map((each) => `<li>${each}</li>`).join('')}</ul>`;
  return sectionHtml('Checkpoints and reports', table + list);
}

function logHtml({ log, unknownEventCount }: RunHistory): string {
  if (log.length === 0) return nothing('No events yet.');
  const lines = log.map((event) => {
    const { level, text } = sentenceOf(event);
    const by = event.worker === undefined ? '' : `${event.worker}: `;
    const warning = level === 'warning' ? '<span class="warning">warning</span> ' : '';
    return `<li><time>${timeText(event.epochMs).slice(11)}</time>${warning}${escapeHtml(by + text)}</li>`;
  });
  const unknown =
    unknownEventCount === 0
      ? ''
      : nothing(`${unknownEventCount} lines of another version are not shown.`);
  return (
    `<div class="card scroll tall" role="region" aria-label="The last events" tabindex="0"><ul class="log">` +
    `${lines.reverse().join('')}</ul></div>${unknown}`
  );
}
