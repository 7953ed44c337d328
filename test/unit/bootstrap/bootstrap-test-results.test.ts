// How the test command counts: every failure shows in the last line.
import { describe, expect, it } from 'vitest';
import { closingLine, countTests } from '../../../infra/bootstrap/test-results.mjs';

const report = (files: { status: string; tests: string[] }[]): string =>
  JSON.stringify({
    testResults: files.map((file, fileIndex) => ({
      name: `/project/test/${String(fileIndex)}.test.ts`,
      status: file.status,
      assertionResults: file.tests.map((status, index) => ({
        status,
        fullName: `case ${String(index)}`,
      })),
    })),
  });

describe('countTests', () => {
  it('counts tests, and counts a file that could not run as one failed test', () => {
    const text = report([
      { status: 'passed', tests: ['passed', 'passed', 'pending'] },
      { status: 'failed', tests: ['failed', 'failed', 'passed'] },
      { status: 'failed', tests: [] },
    ]);
    const counts = countTests(text, '/project');
    expect(counts).toEqual({
      passed: 3,
      failed: 3,
      skipped: 1,
      skippedNames: ['test/0.test.ts: case 2'],
    });
    expect(closingLine(counts)).toBe('3 passed, 3 failed, 1 skipped');
  });

  it('counts a missing report as a failure', () => {
    expect(closingLine(countTests(undefined, '/project'))).toBe('0 passed, 1 failed');
  });

  it('counts a failed hook after passing tests', () => {
    const text = report([{ status: 'failed', tests: ['passed'] }]);
    expect(closingLine(countTests(text, '/project'))).toBe('1 passed, 1 failed');
  });
});
