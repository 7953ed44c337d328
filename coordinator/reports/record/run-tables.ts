/** The status of a run, a list of runs and the lines of a log, for a terminal and for programs. */

import { printableText } from '../../../shared/base/printable-text.js';
import { encodeEvent } from '../../../shared/events/event-lines.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { sentenceOf } from '../../../shared/events/run-events.js';
import type { RunStatus } from '../../record/run-status.js';
import { textTable, type TableCell } from '../table.js';
import { durationText } from './duration-text.js';
import { counted } from '../../../shared/names/counted.js';

export function statusText(status: RunStatus): string {
  const { call, checkpoint, validation, ending, silentMs, outerStepMs, leftMs } = status;
  const rows: [string, string | null][] = [
    ['run', status.run],
    ['output', status.output],
    ['state', stateText(status)],
    ['call', call === null ? null : callText(call)],
    ['step', stepText(status)],
    ['loss', lossText(status)],
    ['adapting', adaptationText(status)],
    ['pace', outerStepMs === null ? null : `${durationText(outerStepMs)} an outer step`],
    ['left', leftMs === null ? null : durationText(leftMs)],
    ['stage', stageText(status)],
    [
      'best',
      validation === null
        ? null
        : `outer step ${validation.bestOuterStep}, validation loss ${validation.bestLoss.toFixed(5)}`,
    ],
    [
      'checkpoint',
      checkpoint === null ? null : `outer step ${checkpoint.outerStep}, ${checkpoint.digest}`,
    ],
    ['refused', refusedText(status)],
    ['last event', `${durationText(silentMs)} ago`],
    ['reason', ending?.kind === 'failed' ? ending.reason : null],
  ];
  return rows
    .flatMap(([label, text]) =>
      text === null ? [] : [`${label.padEnd(11)}${printableText(text)}`],
    )
    .join('\n');
}

function stateText({ state, ending, unknownEventCount }: RunStatus): string {
  const kind = ending?.kind === 'failed' && state === 'failed' ? ` (${ending.failure})` : '';
  const unknown =
    unknownEventCount === 0 ? '' : `; ${unknownEventCount} lines of another version are not read`;
  return `${state}${kind}${unknown}`;
}

function callText({ name, process: { host, pid }, sinceMs }: NonNullable<RunStatus['call']>) {
  return `${name}, process ${pid} on ${host}, since ${new Date(sinceMs).toISOString()}`;
}

function stepText({ training }: RunStatus): string | null {
  return training === null ? null : `${training.outerStep} of ${training.outerSteps}`;
}

function lossText({ training }: RunStatus): string | null {
  const { queryLoss = null, supportLoss = null, tasksPerSecond = null } = training ?? {};
  if (queryLoss === null) return null;
  const support = supportLoss === null ? '' : `, support ${supportLoss.toFixed(4)}`;
  const speed = tasksPerSecond === null ? '' : `, ${Math.round(tasksPerSecond)} tasks/s`;
  return `query ${queryLoss.toFixed(4)}${support}${speed}`;
}

function adaptationText({ training }: RunStatus): string | null {
  const { adaptation = null } = training ?? {};
  if (adaptation === null) return null;
  const { outerStep, queryLossBefore, queryLossAfter } = adaptation;
  return `query loss ${queryLossBefore.toFixed(4)} before, ${queryLossAfter.toFixed(4)} after, in step ${outerStep}`;
}

/** The stage of work under way; null for what has finished, as a search ends before all steps that it might have trained. */
function stageText({ stage, state }: RunStatus): string | null {
  if (stage === null || state === 'finished') return null;
  return `${stage.stage}, ${stage.done}${stage.total === null ? '' : ` of ${stage.total}`}`;
}

function refusedText({ refusedResultCounts }: RunStatus): string | null {
  const counts = Object.entries(refusedResultCounts);
  if (counts.length === 0) return null;
  return counts.map(([reason, count]) => `${counted(count, 'result')} ${reason}`).join(', ');
}

export function runsText(runs: readonly RunStatus[], outputColumns: number): string {
  if (runs.length === 0) return 'no runs';
  const rows = runs.map((run): TableCell[] => [
    printableText(run.run ?? '-'),
    run.state,
    run.callName ?? '-',
    stepText(run) ?? '-',
    run.training?.queryLoss?.toFixed(4) ?? '-',
    `${durationText(run.silentMs)} ago`,
    printableText(run.output),
  ]);
  return textTable(
    {
      columns: [
        { title: 'run', alignment: 'left' },
        { title: 'state', alignment: 'left' },
        { title: 'call', alignment: 'left', isOptional: true },
        { title: 'outer step' },
        { title: 'query loss' },
        { title: 'last event' },
        { title: 'output', alignment: 'left', isOptional: true },
      ],
      rows,
    },
    outputColumns,
  );
}

export function logLine(event: StampedEvent, format: 'table' | 'json'): string {
  if (format === 'json') return encodeEvent(event);
  const { level, text } = sentenceOf(event);
  const time = new Date(event.epochMs).toISOString();
  const by = event.worker === undefined ? '' : `${event.worker}: `;
  return printableText(`${time}  ${level.padEnd(7)}  ${by}${text.replaceAll('\n', ', ')}`);
}
