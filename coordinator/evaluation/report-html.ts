/** The evaluation report as one self-contained HTML page. */

import type { EvaluationReport } from './evaluation-report.js';

export function reportHtml(_report: EvaluationReport): string {
  return '';
}
