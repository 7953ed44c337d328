/** Verbs that make a run: from logs to a trained, evaluated and chosen model. */

import type { Document } from '../../coordinator/reports/document/document.js';
import type { PreparedStore } from '../../coordinator/reports/store-document.js';
import type { ProposedConfig } from '../../coordinator/runs/init-run.js';
import { flag, text } from '../../coordinator/runs/request-fields.js';
import { REQUESTS } from '../../coordinator/runs/requests.js';
import type { SweepRecord } from '../../coordinator/sweep/sweep-record.js';
import type { SynthesisReport } from '../../coordinator/synthesize/synthesize.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { deviceReportLines } from '../../shared/events/device-report.js';
import { counted } from '../../shared/names/counted.js';
import type { CheckedLogs } from '../../coordinator/prepare/check-logs.js';
import type { MachineCheckResult } from './check-machine.js';
import type { ReplayResult } from './explored-log.js';
import { StartRequestSchema } from './requests.js';
import { call, service, type Shown } from './verb.js';

const count = (value: number): string => value.toLocaleString('en');

const searchDocument = async (record: SweepRecord): Promise<Document> =>
  (await import('../../coordinator/reports/sweep-document.js')).sweepDocument(record);

/** Goes from a log, or a config with data alone, to a model that was compared with plain ones, exported and asked once. */
export const start = call('start', {
  request: StartRequestSchema,
  about: 'go from a log to a served model',
  operands: ['files'],
  extra: { serve: flag('serve the model at once, until stopped') },
  help: `
It proposes a config (init), prepares the rows, searches for a model (auto), compares it with plain models on held-out
adgroups, exports it, and prints the command that serves it. If a column cannot be told, it asks as init does. Correct the
config where it is wrong, and start from it. A start that was stopped goes on when it is started again.

Examples:
  qianmo start clicks.csv
  qianmo start 'logs/*.parquet' --task campaign --label clicked
  qianmo start run.yaml --serve`,
  run: async () => (await import('./start.js')).startFromLog,
  show: async (started) =>
    (await import('../../coordinator/reports/start-document.js')).startDocument(started),
  after: async (started, { serve }, around) => {
    if (serve) await (await import('./start.js')).serveStarted(started, around);
  },
});

/** Writes an advertising log whose true click probabilities are known. */
export const synthesize = call('synthesize', {
  request: REQUESTS.synthesize,
  about: 'write an advertising log whose true click probabilities are known',
  help: '\nExample:\n  qianmo synthesize --rows 10M --out runs/log.csv',
  run: async () => (await import('../../coordinator/synthesize/synthesize.js')).synthesize,
  show: (report) => ({ text: synthesisLines(report), json: report }),
});

/** Reads the first rows of a log and writes a config that names its task, label, time and features. */
export const init = call('init', {
  request: REQUESTS.init,
  about: 'propose a config from a log',
  operands: ['logs'],
  help: `
It reads the first 50,000 rows. If a column cannot be told, it asks on a terminal; elsewhere, and with --format json, the
error names the option that says it.

Examples:
  qianmo init clicks.csv
  qianmo init 'logs/*.parquet' --task campaign --label clicked
  qianmo init --sql "select * from 'a.csv' join 'b.csv' using (user)"`,
  run: async () => {
    const { initRun } = await import('../../coordinator/runs/init-run.js');
    const { configSchemaPath } = await import('./package-root.js');
    return (request, context, { ask }) =>
      initRun(request, context, { schemaPath: configSchemaPath(), ask });
  },
  show: (written) => ({ text: proposalText(written), json: written }),
});

/** Turns logs into a task store. A store that was made from the same logs and config is kept. */
export const prepare = call('prepare', {
  request: REQUESTS.prepare,
  about: 'turn logs into a task store',
  operands: ['config'],
  plugins: true,
  help: '\nExample:\n  qianmo prepare infra/examples/movielens.yaml',
  run: async () => (await import('../../coordinator/runs/prepare-run.js')).prepareRun,
  show: async (prepared: PreparedStore) =>
    (await import('../../coordinator/reports/store-document.js')).storeDocument(prepared),
});

/** Takes the rows of an adgroup or a user out of the logs, removes what was made of them, and looks for what is left. */
export const forget = call('forget', {
  request: REQUESTS.forget,
  about: 'take the rows of an adgroup or a user out of logs and all that was made of them',
  operands: ['config'],
  plugins: true,
  help: `
Logs are written again without the rows; what the run made of them is removed, and the commands that make it again are printed.
Every file is then searched for the id. A forget that was stopped goes on when it is started again.
Examples:
  qianmo forget run.yaml --adgroup g7 --dry-run
  qianmo forget run.yaml --value user=u123 --logs runs/shop/rows --also runs/shop/state,s3://models/shop`,
  run: async () => (await import('../../coordinator/runs/forget-run.js')).forgetRows,
  show: async (forgotten) =>
    (await import('../../coordinator/runs/forget-run.js')).shownForgotten(forgotten),
});

/** Meta-trains on the training tasks of a prepared store. */
export const train = call('train', {
  request: REQUESTS.train,
  about: 'meta-train on the training tasks of a prepared store',
  operands: ['config'],
  plugins: true,
  watched: 'all',
  help: `
Example:
  qianmo train run.yaml
It computes on this machine, in as many processes as pay off. Workers of a queue, on any machines, compute the same:
  qianmo worker --redis redis://10.0.0.5:6379
  qianmo train run.yaml --redis redis://10.0.0.5:6379`,
  run: async () => (await import('../../coordinator/runs/train-run.js')).trainRun,
  show: (result) => {
    const { run, outerSteps, checkpoint, digest } = result;
    const steps = counted(outerSteps, 'outer step');
    const words = `trained ${run}: ${steps}, checkpoint ${checkpoint}, digest ${digest}`;
    return { text: words, json: result };
  },
});

/**
 * Compares the arms of a trained run on held-out tasks, and writes the reports to its output.
 *
 * @returns a report for each segment, or a single report if tasks have no segments
 */
export const evaluate = call('evaluate', {
  request: REQUESTS.evaluate,
  about: 'compare the arms of a trained run on held-out adgroups',
  operands: ['config'],
  plugins: true,
  watched: 'all',
  help: '\nExample:\n  qianmo evaluate run.yaml --predictions p.parquet',
  run: async () => (await import('../../coordinator/runs/evaluate-run.js')).evaluateRun,
  show: async (reports) => {
    const { evaluationDocument } = await import('../../coordinator/reports/evaluation-document.js');
    const { reportsData } = await import('../../coordinator/scoring/evaluation-report.js');
    return { text: reports.map(evaluationDocument), json: reportsData(reports) };
  },
});

/**
 * Opens a prepared run and starts what computes it, for several calls on the same processes. The caller
 * closes it. `onEvent` receives the events of all its calls.
 */
export const openRun = service('openRun', {
  request: REQUESTS.open,
  about: 'keep a run and its processes open for several calls',
  command: null,
  open: async () => (await import('../../coordinator/runs/evaluate-run.js')).openRun,
});

/** Compares the arms of an A/B test on logged rows, such as a bundle and its canary. */
export const experiment = call('experiment', {
  request: REQUESTS.experiment,
  about: 'compare the arms of an A/B test on logged rows',
  operands: ['logs'],
  help: `
Intervals hold however often you look. Rows of a server have the bundle as their arm, so a canary is compared with the
bundle beside it.

Examples:
  qianmo experiment runs/shop/rows --unit user --from 2026-12-01T08:00Z --share 0.2
  qianmo experiment test.csv --unit user --arm group --outcome ordered --segment country`,
  run: async () => (await import('../../coordinator/runs/experiment-run.js')).compareArms,
  show: async (report) =>
    (await import('../../coordinator/reports/experiment-document.js')).experimentDocument(report),
});

/** Compares evaluated runs on the same test rows. The first run is the reference. */
export const compare = call('compare', {
  request: REQUESTS.compare,
  about: 'compare evaluated runs on the same test rows',
  operands: ['runs'],
  extra: {
    out: text('<folder> folder for comparison.html and comparison.json').default('runs/comparison'),
  },
  plugins: true,
  help: `
The first run is the reference. The default arm is meta-adapted if the run has it.

Example:
  qianmo compare runs/movielens:global runs/movielens runs/posterior`,
  run: async () => (await import('../../coordinator/runs/record-calls.js')).compareEvaluated,
  show: async (report) =>
    (await import('../../coordinator/reports/comparison-document.js')).comparisonDocument(report),
});

/** Tries methods and settings, and keeps those that do best on the validation tasks. */
export const sweep = call('sweep', {
  request: REQUESTS.sweep,
  about: 'try methods and settings, narrowed down on the validation adgroups',
  operands: ['config'],
  plugins: true,
  watched: 'all',
  help: `
Each trial is a run of its own below the sweep's output; the best one's config is written as best.yaml.

Example:
  qianmo sweep infra/examples/sweep.yaml`,
  run: async () => (await import('../../coordinator/runs/sweep-run.js')).sweepRuns,
  show: searchDocument,
});

/** Chooses model, method and training of a run on the validation tasks. */
export const auto = call('auto', {
  request: REQUESTS.auto,
  about: 'choose model, method and training on the validation adgroups',
  operands: ['config'],
  plugins: true,
  watched: 'all',
  help: `
The config needs run, seed, data and output; a model or method that it names is tried first. The choice is a run of its
own below <output>/auto, and is trained already; its config is <output>/auto/best.yaml.

Example:
  qianmo auto run.yaml --trials-max 2
  qianmo evaluate runs/shop-clicks/auto/best.yaml
  qianmo export runs/shop-clicks/auto/best.yaml`,
  run: async () => (await import('../../coordinator/runs/sweep-run.js')).autoRun,
  show: searchDocument,
});

/** Estimates from logged choices what another policy would have earned. */
export const ope = call('ope', {
  request: REQUESTS.ope,
  about: 'estimate from logged choices what another policy would have earned',
  operands: ['logs'],
  plugins: true,
  help: `
Example, a table that names the probability of each choice under both policies:
  qianmo ope choices.csv --propensity p_logged --target p_new --format json
Example, the exploration of a config on what a server has logged:
  qianmo ope runs/shop/state/rows --policy policy.yaml
  qianmo ope s3://logs/shop/rows --replay --bundles runs/shop/bundles`,
  run: async () => (await import('./explored-log.js')).judgeLoggedChoices,
  show: async (result) =>
    (await import('../../coordinator/reports/off-policy-document.js')).offPolicyDocument(result),
});

/** Repeats logged decisions from their records, bit for bit. A decision that differs is a result, not a failure. */
export const replayDecisions = call('replayDecisions', {
  request: REQUESTS.replay,
  about: 'repeat logged decisions from their records, bit for bit',
  command: 'ope',
  operands: ['logs'],
  extra: {
    replay: flag('repeat the decisions from their records, bit for bit', { conflicts: 'policy' }),
    bundles: REQUESTS.replay.shape.bundles,
  },
  when: 'replay',
  run: async () => (await import('./explored-log.js')).replayLog,
  show: replayTexts,
});

/** Checks the requirements of this machine, and of a run if one is given. A problem is a result, not a failure. */
export const check = call('check', {
  request: REQUESTS.check,
  about: 'check what a run needs and say how to get what is missing',
  operands: ['config'],
  plugins: true,
  help: `
Until there is a task store, it reads the first 50,000 rows of the logs as prepare would: it says which rows would be
rejected, and how adgroups would be divided.

Example:
  qianmo check run.yaml`,
  run: async () => (await import('./check-machine.js')).checkRequirements,
  show: checkTexts,
});

function proposalText({ path, text: yaml, rowCount }: ProposedConfig): string {
  const from = counted(rowCount, 'row');
  return `${yaml}\nwrote ${path}, from ${from}. Read it, then: qianmo start ${path}`;
}

function synthesisLines(report: SynthesisReport): string {
  return [
    `advertising log ${report.path} (world: ${report.worldPath})`,
    `  rows:     ${count(report.rows)}, ${count(report.clickCount)} clicks, ${count(report.adgroupCount)} adgroups`,
    `  logloss:  constant ${report.constantLogloss.toFixed(4)}, oracle ${report.oracleLogloss.toFixed(4)}`,
    `  speed:    ${count(Math.round(report.rowsPerSecond))} rows/s`,
  ].join('\n');
}

/** Fails after a requirement that is not met. */
function checkTexts(results: readonly MachineCheckResult[]): Shown {
  const problems = results.filter(({ state }) => state === 'problem');
  const shown = { text: checkTable(results), json: results };
  if (problems.length === 0) return shown;
  const failure = new QianmoError({
    kind: 'environment',
    what: `${problems.length} of ${results.length} requirements ${problems.length === 1 ? 'is' : 'are'} not met`,
    found: problems.map(({ requirement }) => requirement).join(', '),
    cure: 'the cures are named above',
  });
  return { ...shown, failure };
}

function checkTable(results: readonly MachineCheckResult[]): string {
  const width = Math.max(...results.map(({ requirement }) => requirement.length));
  return results
    .flatMap(({ state, requirement, detail, cure, device, logs }) => {
      const margin = ' '.repeat(width + 11);
      const lines = [`${state.padEnd(7)}  ${requirement.padEnd(width)}  ${detail}`];
      if (cure !== null) lines.push(`${margin}cure: ${cure}`);
      const facts = [
        ...(device === undefined ? [] : deviceReportLines(device)),
        ...(logs === undefined ? [] : logLines(logs)),
      ];
      const labelWidth = Math.max(...facts.map(([label]) => label.length));
      lines.push(...facts.map(([label, fact]) => `${margin}${label.padEnd(labelWidth)}  ${fact}`));
      return lines;
    })
    .join('\n');
}

/** What would become of the rows, as pairs of label and value. */
function logLines({ rejected, division, remarks }: CheckedLogs): (readonly [string, string])[] {
  const rejectedLines = rejected.map(
    ({ reason, rowCount }) => ['rejected', `${counted(rowCount, 'row')}: ${reason}`] as const,
  );
  const remarkLines = remarks.map((remark) => ['remark', remark] as const);
  if (division === null)
    return [...rejectedLines, ['adgroups', 'as the split file says'], ...remarkLines];
  const { taskCount, taskCountBySplit, supportRowCount, queryRowCount, trunkRowCount } = division;
  const { train, validation, test } = taskCountBySplit;
  const trunk = trunkRowCount === 0 ? '' : `, ${count(trunkRowCount)} that train the trunk only`;
  return [
    ...rejectedLines,
    [
      'adgroups',
      `${count(taskCount)}: ${count(train)} train, ${count(validation)} validation, ${count(test)} test`,
    ],
    ['rows', `${count(supportRowCount)} support, ${count(queryRowCount)} query${trunk}`],
    ...remarkLines,
  ];
}

/** Fails after a decision or a score that differs. */
function replayTexts(result: ReplayResult): Shown {
  const { decisionCount, differingCount, differing, scores } = result;
  const decisions = `${decisionCount - differingCount} of ${decisionCount} decisions repeat bit for bit`;
  const text = scores === null ? decisions : `${decisions}\n${scoresText(scores)}`;
  if (differingCount > 0)
    return { text, json: result, failure: unrepeated('decisions', differing) };
  if (scores === null || scores.differingCount === 0) return { text, json: result };
  return { text, json: result, failure: unrepeated('scores', scores.differing) };
}

function scoresText(scores: NonNullable<ReplayResult['scores']>): string {
  const { rowCount, differingCount, differenceMax, liveCount, leftOutCount } = scores;
  const same = `${count(rowCount - differingCount)} of ${counted(rowCount, 'row')} score the same`;
  const most = `largest difference ${differenceMax.toExponential(1)}`;
  const left = `${liveCount} scored by live blocks, ${leftOutCount} of other bundles or values`;
  return `${same}, ${most}; not compared: ${left}`;
}

function unrepeated(what: 'decisions' | 'scores', differing: readonly string[]): QianmoError {
  return errorOf('failed', `${what} of the log do not repeat`, {
    expected:
      what === 'decisions'
        ? 'the slots and propensities of the record, from its input and seed'
        : 'the probabilities of the record, within 1e-6, from its bundle and features',
    found: differing.join(', '),
    cure: 'replay with the version that made them; otherwise the log was changed',
  });
}
