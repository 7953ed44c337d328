// Reads vitest's JSON report and counts tests; prints nothing and runs nothing.

/**
 * @typedef {object} TestCounts
 * @property {number} passed
 * @property {number} failed a test file that could not be run counts as one
 * @property {number} skipped
 * @property {string[]} skippedNames `file: full test name`
 */

/**
 * @param {string | undefined} reportText content of the report; undefined when vitest wrote none
 * @param {string} root removed from the file names
 * @returns {TestCounts}
 */
export function countTests(reportText, root) {
  /** @type {TestCounts} */
  const counts = { passed: 0, failed: 0, skipped: 0, skippedNames: [] };
  if (reportText === undefined) return { ...counts, failed: 1 };
  /** @type {{ testResults: { name: string, status: string, assertionResults: { status: string, fullName: string }[] }[] }} */
  const report = JSON.parse(reportText);
  for (const file of report.testResults) {
    let failedHere = 0;
    for (const test of file.assertionResults) {
      if (test.status === 'passed') counts.passed += 1;
      else if (test.status === 'failed') failedHere += 1;
      else {
        counts.skipped += 1;
        counts.skippedNames.push(`${file.name.replace(`${root}/`, '')}: ${test.fullName}`);
      }
    }
    counts.failed += file.status === 'failed' ? Math.max(failedHere, 1) : failedHere;
  }
  return counts;
}

/**
 * @param {TestCounts} counts
 * @returns {string} the last line of a test run
 */
export function closingLine(counts) {
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
  return `${counts.passed} passed, ${counts.failed} failed${skipped}`;
}
