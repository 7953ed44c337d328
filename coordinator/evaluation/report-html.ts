/** The evaluation report as one self-contained HTML page. */

import type { EvaluationReport } from './report-json.js';

export function renderEvaluationHtml(_report: EvaluationReport): string {
  return '';
}
