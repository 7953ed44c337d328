/** The comparison of update rules as a document. */

import type { RuleComparison, RuleResult } from '../streaming/rule-comparison.js';
import { columnsOf, tableBlock, textBlock, type Document } from './document/document.js';
import { formatCount, formatSigned } from './document/format.js';

/**
 * The learned rule minus the best baseline, per row, with 95 % intervals over segments. Below 0 is
 * better.
 */
interface RuleVerdict {
  readonly best: RuleResult;
  readonly difference: number;
  readonly low: number;
  readonly high: number;
  readonly verdict: 'better' | 'within noise' | 'worse';
}

/**
 * Compares the learned rule with the baseline that has the lowest logloss on the judged rows. Null if
 * the logloss of the learned rule, or of every baseline, is not finite.
 */
export function verdictOf({ rules }: RuleComparison): RuleVerdict | null {
  const [first, ...others] = rules.filter(({ behindLearned }) => behindLearned !== null);
  if (first === undefined) return null;
  const best = others.reduce((kept, rule) => (rule.logloss < kept.logloss ? rule : kept), first);
  const { value = 0, low = 0, high = 0 } = best.behindLearned ?? {};
  const verdict = low > 0 ? 'better' : high < 0 ? 'worse' : 'within noise';
  return { best, difference: -value, low: -high, high: -low, verdict };
}

export function rulesDocument(comparison: RuleComparison): Document {
  const { rules } = comparison;
  const rows = rules.map(({ rule, logloss, behindLearned: behind, priorLogloss }) => [
    rule,
    logloss.toFixed(5),
    behind === null
      ? ''
      : `${formatSigned(-behind.value, 5)} [${formatSigned(-behind.high, 5)}, ${formatSigned(-behind.low, 5)}]`,
    priorLogloss.toFixed(5),
  ]);
  const columns = columnsOf(
    '<rule',
    '<logloss',
    '<learned minus it, 95 % over segments',
    '<prior logloss',
  );
  return {
    data: comparisonRecord(comparison),
    blocks: [
      tableBlock('Rules', { columns, rows }),
      ...verdictLines(comparison).map((text) => textBlock(text)),
    ],
  };
}

function verdictLines(comparison: RuleComparison): string[] {
  const judged = verdictOf(comparison);
  const rows = `${formatCount(comparison.judgedRowCount)} rows, each predicted before it was learned.`;
  const diverged = comparison.rules.filter(({ logloss }) => !Number.isFinite(logloss));
  const notFinite = `The logloss of ${diverged.map(({ rule }) => rule).join(', ')} is not finite`;
  if (judged === null) return [rows, `${notFinite}: there is nothing to judge.`];
  return [
    ...(diverged.length === 0 ? [] : [`${notFinite}.`]),
    `${rows} Against ${judged.best.rule}, the best baseline here, the learned rule is ${judged.verdict}.`,
  ];
}

/** The whole comparison, with phi as plain numbers. */
export function comparisonRecord(comparison: RuleComparison): Record<string, unknown> {
  return { ...comparison, parameters: [...comparison.parameters] };
}
