/** Compares the arms of an A/B test on logged rows. */

import { errorOf } from '../../shared/base/errors.js';
import { readExperimentRows } from '../logs/experiment-rows.js';
import type { ComparedExperiment } from '../reports/experiment-document.js';
import { experimentReport } from '../scoring/experiment.js';
import { objectStoreAt } from './places.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';

/** @throws QianmoError `usage` for columns, arms or a time that are not there, `data` for rows that cannot be counted. */
export async function compareArms(
  { logs, columns, arms: chosen, from, unitsPlanned, share, ...settings }: RequestOf<'experiment'>,
  { environment, signal, sink }: RunContext,
): Promise<ComparedExperiment> {
  const { arms, segments, ...counts } = await readExperimentRows(
    { logs, columns, arms: chosen, fromSeconds: secondsOf(from) },
    { sink, signal, objectStoreOf: (address) => objectStoreAt(address, environment) },
  );
  return { ...experimentReport(arms, segments, { ...settings, unitsPlanned, share }), ...counts };
}

const MS_PER_SECOND = 1_000;

function secondsOf(from: string | undefined): number | undefined {
  if (from === undefined) return undefined;
  const seconds = /^\d+(\.\d+)?$/.test(from) ? Number(from) : Date.parse(from) / MS_PER_SECOND;
  if (Number.isFinite(seconds)) return seconds;
  throw errorOf('usage', 'the beginning of the test is no time', {
    where: '--from',
    expected: 'a time such as 2026-12-01T08:00Z, or seconds since 1970',
    found: from,
  });
}
