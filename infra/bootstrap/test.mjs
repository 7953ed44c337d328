// `npm test`: sets the checkout up, runs all tests with the given arguments, checks types, style and format
// beside them, and ends with the skipped tests, the reasons, and the counts. A check that fails counts as one failure.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { failWith, projectRoot, readIfThere, runCommand, say } from './base.mjs';
import { setUp } from './setup.mjs';
import { whyNoNativeTensorFlow } from './tensorflow.mjs';

const SKIPPED_NAMES_SHOWN_MAX = 40;
const PRETTIER = 'node_modules/prettier/bin/prettier.cjs';

/** @typedef {import('./setup.mjs').SetUpResult} SetUpResult */

/** @typedef {{ name: string, errors: string[] }} Check */

/**
 * @param {string} name
 * @param {string[]} args the program, relative to the project, and its arguments
 * @returns {Promise<Check>}
 */
async function runCheck(name, args) {
  const { ok, output } = await runCommand(process.execPath, args, { cwd: projectRoot });
  return { name, errors: ok ? [] : output.trimEnd().split('\n') };
}

/** @returns {Promise<Check>[]} */
function startChecks() {
  return [
    runCheck('types and lint', ['test/tidy/check-sources.mjs']),
    runCheck('format', [PRETTIER, '--check', '.', '--log-level', 'warn']),
  ];
}

/** @param {Check} check */
function reportCheck({ name, errors }) {
  say(errors.length === 0 ? `ok   ${name} (nothing found)` : `!!   ${name} (FAILED)`);
  for (const error of errors) say(`       ${error}`);
}

/**
 * @param {SetUpResult} result
 * @param {string} reportPath receives vitest's JSON report
 * @returns {Promise<boolean>} whether vitest succeeded
 */
function runVitest(result, reportPath) {
  const vitest = join(projectRoot, 'node_modules', 'vitest', 'vitest.mjs');
  const args = ['run', '--config', 'test/vitest.config.ts', '--reporter=default'];
  args.push('--reporter=json', `--outputFile.json=${reportPath}`, ...process.argv.slice(2));
  const environment = { ...process.env };
  // The set-up has compiled them.
  environment['QIANMO_TEST_COMPILED'] = 'yes';
  delete environment['QIANMO_TEST_S3_SERVER'];
  if (result.redisServer) environment['QIANMO_TEST_REDIS_SERVER'] = result.redisServer.path;
  if (result.s3Server) environment['QIANMO_TEST_S3_SERVER'] = JSON.stringify(result.s3Server);
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [vitest, ...args], {
      cwd: projectRoot,
      env: environment,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    child.once('error', () => resolve(false));
    child.once('exit', (code) => resolve(code === 0));
  });
}

/**
 * @param {SetUpResult} result
 * @returns {string[]} requirements of tests that this machine lacks
 */
function findLacks(result) {
  const lacks = [];
  if (!result.redisServer) lacks.push('no Redis server available: tests of the queue');
  if (!result.s3Server) lacks.push(`no S3 server (${result.s3Problem}): tests of s3:// stores`);
  const noTensorFlow = whyNoNativeTensorFlow();
  if (noTensorFlow !== '') lacks.push(`no native TensorFlow (${noTensorFlow}): tests on it`);
  if (!existsSync(join(projectRoot, '..', 'shared'))) {
    lacks.push('../shared is missing: tests on its real data');
  }
  return lacks;
}

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
function countTests(reportText, root) {
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
function closingLine(counts) {
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
  return `${counts.passed} passed, ${counts.failed} failed${skipped}`;
}

async function main() {
  const folder = mkdtempSync(join(tmpdir(), 'qianmo-test-'));
  try {
    /** @type {Promise<Check>[]} */
    let running = [];
    const result = await setUp({ forTests: true, onPackages: () => (running = startChecks()) });
    const reportPath = join(folder, 'report.json');
    const content = await runVitest(result, reportPath);
    const checks = await Promise.all(running);
    for (const check of checks) reportCheck(check);
    const failedChecks = checks.filter(({ errors }) => errors.length > 0).length;
    const counts = countTests(readIfThere(reportPath), projectRoot);
    counts.failed += failedChecks;
    // Errors outside of tests are not counted in the report.
    if (!content && counts.failed === failedChecks) counts.failed += 1;
    for (const lack of findLacks(result)) console.log(`skipped: ${lack}`);
    for (const name of counts.skippedNames.slice(0, SKIPPED_NAMES_SHOWN_MAX)) {
      console.log(`skipped: ${name}`);
    }
    console.log(closingLine(counts));
    return counts.failed === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  failWith(error);
}
