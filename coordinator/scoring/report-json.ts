/** Writes and reads the evaluation report as JSON, and names its files in the output of a run. */

import { z } from 'zod';
import { QianmoError } from '../../shared/base/errors.js';
import {
  EvaluationReportSchema,
  REPORT_FORMAT_VERSION,
  type EvaluationReport,
} from './evaluation-report.js';

export const REPORT_FILE = 'evaluation.json';

/**
 * `report.html`, or `report-SEGMENT.html` for a segment. Characters that are not allowed in keys of
 * objects are written as the hexadecimal digits of their bytes, with an `=` before each byte.
 */
export function fileOfSegment(file: string, segment: string | null): string {
  if (segment === null) return file;
  const name = segment.replace(/[^A-Za-z0-9_.-]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `=${byte.toString(16).padStart(2, '0')}`).join(''),
  );
  return file.replace(/(?=\.[a-z]+$)/, () => `-${name}`);
}

/** The segment whose file of this kind has the key: null for that of a run without segments, undefined for other keys. */
export function segmentOfKey(file: string, key: string): string | null | undefined {
  if (key === file) return null;
  const [start = '', end = ''] = file.split(/(?=\.[a-z]+$)/);
  if (!key.startsWith(`${start}-`) || !key.endsWith(end)) return undefined;
  const name = key.slice(start.length + 1, key.length - end.length);
  const bytes = name.replace(/=([0-9a-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  const segment = Buffer.from(bytes, 'latin1').toString('utf8');
  return fileOfSegment(file, segment) === key ? segment : undefined;
}

export function reportJson(report: EvaluationReport): string {
  return `${JSON.stringify(EvaluationReportSchema.parse(report), null, 2)}\n`;
}

/** The record of the one report, or of those of all segments. */
export function reportsData(reports: readonly EvaluationReport[]): unknown {
  const segments = reports.map((report) => EvaluationReportSchema.parse(report));
  return segments.length === 1 ? segments[0] : { formatVersion: REPORT_FORMAT_VERSION, segments };
}

/** @throws QianmoError of kind `data` if the text is not a report of this version. */
export function parseReport(json: string, where: string): EvaluationReport {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw unreadable(where, 'not JSON', cause);
  }
  const parsed = EvaluationReportSchema.safeParse(value);
  if (!parsed.success) throw unreadable(where, `\n${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

function unreadable(where: string, found: string, cause?: unknown): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'this is not an evaluation report',
    where,
    expected: `JSON written by qianmo evaluate, format version ${REPORT_FORMAT_VERSION}`,
    found,
    cure: 'write it again with qianmo evaluate --format json',
    ...(cause === undefined ? {} : { cause }),
  });
}
