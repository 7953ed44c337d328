/** Notices and warnings about the way from logs to a task store. */

import { secondsText } from '../../shared/events/event-words.js';
import { noticeEvent, warningEvent, type RunEvent } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';

export function logsKnown(fileCount: number, address: string): RunEvent {
  const files = counted(fileCount, 'log file');
  return noticeEvent(
    'logs-known',
    `${files} in the task store at ${address} already: nothing appended`,
  );
}

interface AppendedCounts {
  readonly changedTaskCount: number;
  readonly newTaskCount: number;
  readonly logRowCount: number;
  readonly durationMs: number;
}

export function logsAppended({
  changedTaskCount,
  newTaskCount,
  logRowCount,
  durationMs,
}: AppendedCounts): RunEvent {
  return noticeEvent(
    'logs-appended',
    `appended ${counted(logRowCount, 'row')}: ${counted(changedTaskCount, 'task')} with new rows, ` +
      `${counted(newTaskCount, 'new task')}, in ${secondsText(durationMs)}`,
  );
}

export function storeKept(address: string): RunEvent {
  const text = `the task store at ${address} was already prepared from these logs: kept`;
  return noticeEvent('store-kept', text);
}

export function trunkRows({
  rowCount,
  smallTaskCount,
  smallTaskRowCount,
}: {
  readonly rowCount: number;
  readonly smallTaskCount: number;
  readonly smallTaskRowCount: number;
}): RunEvent {
  const named = rowCount - smallTaskRowCount;
  const parts = [
    ...(smallTaskCount === 0
      ? []
      : [`${smallTaskRowCount} of ${counted(smallTaskCount, 'training task')} that are too small`]),
    ...(named === 0 ? [] : [`${named} that the split file names train`]),
  ];
  const text = `${counted(rowCount, 'row')} train the trunk only: ${parts.join(', ')}`;
  return noticeEvent('trunk-rows', text);
}

interface LeftOutTasks {
  readonly taskCount: number;
  readonly rowCount: number;
  readonly supportRowsMin: number;
  readonly queryRowsMin: number;
  /** The tasks with too few support rows, where a split file names the rows. The others have too few query rows. */
  readonly fewSupportTaskCount?: number;
  /** True if small tasks of the training split are not among them. */
  readonly areHeldOut: boolean;
}

export function smallTasksNotice(tasks: LeftOutTasks): RunEvent {
  const { taskCount, rowCount, areHeldOut } = tasks;
  return noticeEvent(
    'small-tasks-left-out',
    `${counted(taskCount, areHeldOut ? 'small held-out task' : 'task')} ` +
      `(${counted(rowCount, 'row')}) left out: ${smallnessOf(tasks)}` +
      (areHeldOut
        ? ''
        : '; with data.trunkRows: small-tasks, those of training tasks train the trunk'),
  );
}

function smallnessOf({
  taskCount,
  supportRowsMin,
  queryRowsMin,
  fewSupportTaskCount,
}: LeftOutTasks): string {
  if (fewSupportTaskCount === undefined)
    return `fewer than ${supportRowsMin + queryRowsMin} rows (supportRowsMin ${supportRowsMin}, queryRowsMin ${queryRowsMin})`;
  const fewQueryTaskCount = taskCount - fewSupportTaskCount;
  return [
    ...(fewSupportTaskCount === 0
      ? []
      : [`${fewSupportTaskCount} with fewer than ${supportRowsMin} support rows (supportRowsMin)`]),
    ...(fewQueryTaskCount === 0
      ? []
      : [`${fewQueryTaskCount} with fewer than ${queryRowsMin} query rows (queryRowsMin)`]),
  ].join(', ');
}

export function rowsDividedAtRandom(): RunEvent {
  return noticeEvent(
    'rows-divided-at-random',
    'rows of an adgroup are divided into support and query rows at random, not by data.time, since data.rowSplit.by is hash; ' +
      'with rowSplit: { by: time } the earlier ones are support rows, as when serving, and qianmo refresh can append logs',
  );
}

/** @param commonest the first of the rows that are rejected for the commonest reason, and their number */
export function rowsRejected(
  rowCount: number,
  file: string,
  commonest: { readonly reason: string; readonly rowCount: number },
): RunEvent {
  const alike = rowCount === 1 ? '' : `, ${commonest.rowCount} of them alike`;
  const text = `${counted(rowCount, 'row')} rejected${alike}: ${commonest.reason}; see ${file} in the store`;
  return warningEvent('rows-rejected', text);
}

export function splitEmpty(split: 'validation' | 'test'): RunEvent {
  return warningEvent('split-empty', `no task is held out for ${split}`);
}

export function labelNeverDiffers({
  segment,
  label,
  value,
}: {
  readonly segment: string | null;
  /** `label` or `the value` */
  readonly label: string;
  readonly value: number;
}): RunEvent {
  return warningEvent(
    'label-never-differs',
    `every training row${segment === null ? '' : ` of segment ${segment}`} has ${label} ${value}: ` +
      'nothing can be learned from it; check that the config names the right column',
  );
}
