/** The events of preparing logs, in words. */

import { counted } from '../names/counted.js';
import type { PREPARATION_SHAPES } from './kinds/preparation-kinds.js';
import type { StampedEventOf } from './run-events.js';
import { notice, warning, type Sentences } from './sentence.js';

export const PREPARATION_SENTENCES = {
  'logs-known': ({ address, fileCount }) =>
    notice(
      `${counted(fileCount, 'log file')} in the task store at ${address} already: nothing appended`,
    ),
  'logs-appended': ({ changedTaskCount, newTaskCount, logRowCount, durationMs }) =>
    notice(
      `appended ${counted(logRowCount, 'row')}: ${counted(changedTaskCount, 'task')} with new rows, ${counted(newTaskCount, 'new task')}, in ${secondsOf(durationMs)}`,
    ),
  'store-kept': ({ address }) =>
    notice(`the task store at ${address} was already prepared from these logs: kept`),
  'store-prepared': ({ taskCount, taskCountBySplit: split, rowCount, logRowCount, durationMs }) =>
    notice(
      `${counted(taskCount, 'task')} (${split.train} train, ${split.validation} validation, ` +
        `${split.test} test) with ${rowCount} of ${counted(logRowCount, 'row')} in ${secondsOf(durationMs)}`,
    ),
  'trunk-rows': ({ rowCount, smallTaskCount, smallTaskRowCount }) => {
    const named = rowCount - smallTaskRowCount;
    const parts = [
      ...(smallTaskCount === 0
        ? []
        : [
            `${smallTaskRowCount} of ${counted(smallTaskCount, 'training task')} that are too small`,
          ]),
      ...(named === 0 ? [] : [`${named} that the split file names train`]),
    ];
    return notice(`${counted(rowCount, 'row')} train the trunk only: ${parts.join(', ')}`);
  },
  'trunk-rows-unread': ({ rowCount, methodKind }) =>
    warning(
      `${counted(rowCount, 'row')} of the store train the trunk only, and ${methodKind} does not read them: ` +
        'it makes the start of an adgroup of its attributes, and these rows are of many adgroups',
    ),
  'small-tasks-left-out': (event) =>
    notice(
      `${counted(event.taskCount, event.areHeldOut ? 'small held-out task' : 'task')} ` +
        `(${counted(event.rowCount, 'row')}) left out: ${smallnessOf(event)}` +
        (event.areHeldOut
          ? ''
          : '; with data.trunkRows: small-tasks, those of training tasks train the trunk'),
    ),
  'tasks-alike': ({ taskCount, names: [first, second] }) =>
    warning(
      `${taskCount} tasks have names that differ only in case or spaces, as "${first}" and "${second}": ` +
        `if they are the same, let data.task say so, { expression: ${spellingOf(first, second)} }`,
    ),
  'values-alike': ({ feature, valueCount, values: [first, second] }) =>
    warning(
      `${valueCount} values of the feature ${feature} differ only in case or spaces, as "${first}" and "${second}": ` +
        'if they are the same, make one of them by an expression or, in a bag, by a separator with its spaces',
    ),
  'rows-divided-at-random': () =>
    notice(
      'rows of an adgroup are divided into support and query rows at random, not by data.time, since data.rowSplit.by is hash; ' +
        'with rowSplit: { by: time } the earlier ones are support rows, as when serving, and qianmo refresh can append logs',
    ),
  'rows-rejected': ({ rowCount, file, commonest }) => {
    const alike = rowCount === 1 ? '' : `, ${commonest?.rowCount} of them alike`;
    const why = commonest === undefined ? '' : `${alike}: ${commonest.reason}`;
    return warning(`${counted(rowCount, 'row')} rejected${why}; see ${file} in the store`);
  },
  'split-empty': ({ split }) => warning(`no task is held out for ${split}`),
  'label-never-differs': ({ segment, labelKind, value }) =>
    warning(
      `every training row${segment === null ? '' : ` of segment ${segment}`} has ` +
        `${labelKind === 'value' ? 'the value' : 'label'} ${value}: nothing can be learned from ` +
        'it; check that the config names the right column',
    ),
} satisfies Sentences<keyof typeof PREPARATION_SHAPES>;

/** An expression of a column `name` that makes one of two such names; the second form also counts spaces within a name as one. */
function spellingOf(first: string, second: string): string {
  const plain = (name: string): string => name.replace(/^ +| +$/g, '').toLowerCase();
  return plain(first) === plain(second)
    ? 'lower(trim(name))'
    : JSON.stringify(String.raw`trim(regexp_replace(lower(name), '[\s\p{Z}]+', ' ', 'g'))`);
}

function smallnessOf({
  taskCount,
  supportRowsMin,
  queryRowsMin,
  fewSupportTaskCount,
}: StampedEventOf<'small-tasks-left-out'>): string {
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

function secondsOf(durationMs: number): string {
  return `${(durationMs / 1000).toFixed(1)} s`;
}
