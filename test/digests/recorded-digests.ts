/** The record of `npm run check -- digests`: its schema, the comparison with it, and its table. */

import { z } from 'zod';

/** In the order of the table's columns. */
const VALUE_NAMES = ['training', 'logits', 'evaluation', 'outcome', 'config'] as const;
type ValueName = (typeof VALUE_NAMES)[number];

/** Hexadecimal digests; a case has those that it can have. */
export type CaseValues = Readonly<Partial<Record<ValueName, string>>>;

const CaseValuesSchema = z.partialRecord(z.enum(VALUE_NAMES), z.string().regex(/^[0-9a-f]+$/));

export const RecordedDigestsSchema = z.strictObject({
  commit: z.string(),
  date: z.string(),
  machine: z.string(),
  cases: z.record(z.string(), CaseValuesSchema),
  /** The commits of cases that were recorded later than the others; older records have it. */
  addedAt: z.record(z.string(), z.string()).optional(),
  /** The lines of the evaluation of the demo's example; empty if it was not run. */
  demoTable: z.array(z.string()),
});
export type RecordedDigests = z.infer<typeof RecordedDigestsSchema>;

/** How many hexadecimal digits of a digest the table shows. */
const SHOWN_DIGITS = 12;

/** Lists each value of `found` that differs from the record, for the cases that are in both. */
export function differencesFrom(
  recorded: RecordedDigests,
  found: Pick<RecordedDigests, 'cases' | 'demoTable'>,
): string[] {
  const lines = Object.entries(found.cases).flatMap(([name, values]) => {
    const before = recorded.cases[name];
    if (before === undefined) return [];
    return VALUE_NAMES.filter((value) => before[value] !== values[value]).map(
      (value) => `${name}: ${value} ${named(before[value])} -> ${named(values[value])}`,
    );
  });
  return [...lines, ...demoDifferences(recorded.demoTable, found.demoTable)];
}

function demoDifferences(before: readonly string[], after: readonly string[]): string[] {
  if (before.length === 0 || after.length === 0) return [];
  const lineCount = Math.max(before.length, after.length);
  const place = Array.from({ length: lineCount }, (_, line) => line).find(
    (line) => before[line] !== after[line],
  );
  if (place === undefined) return [];
  return [
    `demo: line ${place + 1} of the printed table\n  - ${before[place] ?? '(none)'}\n  + ${after[place] ?? '(none)'}`,
  ];
}

/** A Markdown table whose columns also line up as plain text. */
export function digestTable(cases: RecordedDigests['cases']): string[] {
  const rows = Object.entries(cases).map(([name, values]) => [
    name,
    ...VALUE_NAMES.map((value) => shown(values[value])),
  ]);
  const header = ['case', ...VALUE_NAMES];
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(header), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)];
}

function named(digest: string | undefined): string {
  return digest === undefined ? '(none)' : shown(digest);
}

function shown(digest: string | undefined): string {
  return digest === undefined ? '' : digest.slice(0, SHOWN_DIGITS);
}
