/** `qianmo status` and `qianmo wait`: the state of one run, and the end of it. */

import { writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { runPageHtml, runStatus, waitForRun } from '../../../library/index.js';
import { callOptionsOf, type CommandContext } from '../../command/command-context.js';
import { format } from '../../command/shared-options.js';
import { firstOf, textValue, valueOption, verb } from '../../command/verb.js';
import { printDocument } from '../../command/print-document.js';
import { systemFailure } from '../../../../shared/base/system-errors.js';
import type { RunStatus } from '../../../../coordinator/record/run-status.js';

export const runArgument = {
  name: '<run>',
  description: "a run's output folder or s3:// prefix, or its run.yaml",
} as const;

const TIMEOUT_SECONDS_MAX = 31 * 86_400;

export const statusVerb = verb({
  name: 'status',
  description: 'say how far a run is, from its output alone',
  argument: runArgument,
  options: {
    html: valueOption(
      '--html <file>',
      'write the page of the run to this file instead, with everything inside',
      textValue.optional(),
    ),
    format,
  },
  help: `
States: running, waiting for workers, paused, stalled, finished, failed, interrupted, lost. The exit code is 0
whatever the state is; \`qianmo wait\` ends as the run does.
Examples:
  qianmo status runs/movielens
  qianmo status runs/movielens --html movielens.html`,
  run: async (operands, { html, format }, context) => {
    if (html !== undefined) {
      await writePage(firstOf(operands), html, context);
      return;
    }
    const status = await runStatus({ run: firstOf(operands) }, callOptionsOf(context));
    await printStatus(status, format, context);
  },
});

export const waitVerb = verb({
  name: 'wait',
  description: 'wait until a run has ended',
  argument: runArgument,
  options: {
    timeoutSeconds: valueOption(
      '--timeout-seconds <seconds>',
      'give up after this time',
      secondsValue().optional(),
    ),
    format,
  },
  help: `
Exit codes: 0 finished, 1 failed, 3 still under way after the time limit or ended for want of something outside,
4 interrupted or lost, 5 cancelled; both are resumable.
Example:
  qianmo wait runs/movielens --timeout-seconds 3600`,
  run: async (operands, { timeoutSeconds, format }, context) => {
    const request = { run: firstOf(operands), timeoutSeconds };
    await printStatus(await waitForRun(request, callOptionsOf(context)), format, context);
  },
});

async function writePage(run: string, file: string, context: CommandContext): Promise<void> {
  const page = await runPageHtml({ run }, callOptionsOf(context));
  try {
    await writeFile(file, page);
  } catch (cause) {
    throw systemFailure(cause, 'writing the page of a run', file);
  }
  context.print(`wrote ${file}`);
}

function secondsValue(): z.ZodType<number> {
  const expected = `expected seconds, more than 0 and at most ${TIMEOUT_SECONDS_MAX}`;
  return textValue
    .transform(Number)
    .pipe(z.number(expected).positive(expected).max(TIMEOUT_SECONDS_MAX, expected));
}

async function printStatus(
  status: RunStatus,
  format: 'table' | 'json',
  context: CommandContext,
): Promise<void> {
  const { statusDocument } = await import('../../../../coordinator/reports/run-documents.js');
  printDocument(statusDocument(status), format, context);
}
