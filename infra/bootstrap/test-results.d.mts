/** Types of test-results.mjs, for its tests; the meaning is documented there. */
export interface TestCounts {
  passed: number;
  failed: number;
  skipped: number;
  skippedNames: string[];
}
export function countTests(reportText: string | undefined, root: string): TestCounts;
export function closingLine(counts: TestCounts): string;
