/** The evaluation report on a terminal. */

import type { EvaluationReport } from './report-json.js';

export interface TableStyle {
  /** ANSI bold and faint. */
  readonly colour: boolean;
}

export function renderEvaluationTable(_report: EvaluationReport, _style: TableStyle): string {
  return '';
}
