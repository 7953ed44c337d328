/** `qianmo sweep`: many runs of one base config, narrowed down on the validation adgroups. */

import { z } from 'zod';
import { wordsOf } from '../../../coordinator/reports/label-words.js';
import {
  readValidationRows,
  validationCells,
  validationCriterionOf,
} from '../../../coordinator/evaluation/validation-score.js';
import { rungsOf } from '../../../coordinator/sweep/rungs.js';
import { runSweep } from '../../../coordinator/sweep/run-sweep.js';
import { sweepHtml } from '../../../coordinator/reports/sweep/sweep-page.js';
import { openSweepJournal, type SweepJournal } from '../../../coordinator/sweep/sweep-journal.js';
import {
  emptyRecord,
  rankedTrials,
  sweepJson,
  type SweepPlan,
  type SweepRecord,
} from '../../../coordinator/sweep/sweep-record.js';
import { sweepTable } from '../../../coordinator/reports/sweep/sweep-table.js';
import { planTrials, type Trial } from '../../../coordinator/sweep/trials.js';
import {
  checkedRunConfig,
  loadUncheckedRunConfig,
  runConfigYaml,
} from '../../../shared/config/load-run-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { loadSweepConfig, type SweepConfig } from '../../../shared/config/sweep-config.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import type { CommandContext } from '../command-context.js';
import { configReaderOf } from '../named-places.js';
import { dispatchForRun } from '../dispatch-for-run.js';
import { interruptedAs } from '../interruption.js';
import {
  joinAddress,
  objectStoreOf,
  openStoreAsPrepared,
  warnOfUnconditionalWrites,
} from '../run-files.js';
import { trialNamed, trialWork } from '../sweep-trials.js';
import { parsedOptions } from '../usage-failure.js';

const OptionsSchema = z.object({
  workers: z.number().optional(),
  inProcess: z.boolean().optional(),
  redis: z.string().optional(),
  resume: z.boolean().default(false),
  fresh: z.boolean().default(false),
  format: z.enum(['table', 'json']),
});
type Options = z.infer<typeof OptionsSchema>;

export async function sweepVerb(
  path: string,
  rawOptions: unknown,
  context: CommandContext,
): Promise<void> {
  const options = parsedOptions(OptionsSchema, rawOptions, 'sweep');
  const read = configReaderOf(context.environment);
  const sweep = await loadSweepConfig(path, read);
  const uncheckedBase = await loadUncheckedRunConfig(sweep.base, read);
  const base = checkedRunConfig(uncheckedBase, sweep.base);
  const trials = planTrials(sweep, uncheckedBase, path);
  const rungs = rungsOf(trials.length, base.training.outerSteps, sweep.halving, path);
  const record = await interruptedAs(
    sweepTrials({ sweep, base, trials, rungs }, options, context),
    () => ({
      what: 'the sweep was stopped; every score so far is safe, and so is each trial under way',
      where: sweep.output,
      cure: 'go on with `qianmo sweep sweep.yaml --resume` (the same sweep)',
    }),
  );
  context.print(
    options.format === 'json' ? sweepJson(record) : sweepTable(record, context.outputColumns),
  );
}

interface PlannedSweep {
  readonly sweep: SweepConfig;
  readonly base: RunConfig;
  readonly trials: readonly Trial[];
  readonly rungs: SweepPlan['rungs'];
}

async function sweepTrials(
  { sweep, base, trials, rungs }: PlannedSweep,
  options: Options,
  context: CommandContext,
): Promise<SweepRecord> {
  const store = await openStoreAsPrepared(base, context);
  const segment = sweep.segment ?? null;
  const validation = await readValidationRows(store, base.data.store, segment);
  const plan: SweepPlan = {
    sweep: sweep.sweep,
    base: sweep.base,
    trials,
    rungs,
    storeDigest: store.digest,
    segment,
    criterion: validationCriterionOf(validation),
    loss: wordsOf(validation).loss,
    cellsPerTrial: validationCells(base).length,
  };
  const output = objectStoreOf(base, sweep.output);
  const journal = await openSweepJournal(output, emptyRecord(plan), options);
  const { dispatcher } = await dispatchForRun(base, sweep.sweep, options, context);
  const work = trialWork(plan, store, validation, dispatcher, context);
  await warnOfUnconditionalWrites(base, context, sweep.output);
  // What an earlier sweep trained further than a rung would be scored in its place.
  if (options.fresh) await discardEarlierTrials(output);
  await writeTrialConfigs(plan, base, output);
  await journal.save(journal.record);
  const finished = await runSweep({
    ...work,
    record: journal.record,
    concurrentTrials: sweep.concurrentTrials,
    trialsKept: sweep.trialsKept,
    save: (record) => saveWithPage(record, journal, output),
    sink: context.sink,
    signal: context.signal,
  });
  const record = await withBest(finished, plan, base, sweep, output);
  await saveWithPage(record, journal, output);
  context.sink({ kind: 'report-written', address: joinAddress(sweep.output, 'sweep.html') });
  return record;
}

/** Of whichever sweep was there, its trials' checkpoints. */
async function discardEarlierTrials(output: ObjectStore): Promise<void> {
  for (const key of await output.list('trials/'))
    if (/^trials\/t\d+\/checkpoints\//.test(key)) await output.delete(key);
}

async function saveWithPage(
  record: SweepRecord,
  journal: SweepJournal,
  output: ObjectStore,
): Promise<void> {
  await journal.save(record);
  await output.put('sweep.html', Buffer.from(sweepHtml(record)), { kind: 'always' });
}

/** Each trial is a run of its own: `train --resume` and `evaluate` take its config. */
async function writeTrialConfigs(
  { trials, sweep }: SweepPlan,
  base: RunConfig,
  output: ObjectStore,
): Promise<void> {
  for (const { name, config } of trials) {
    const yaml = trialYaml(config, base, `Trial ${name} of sweep ${sweep}.`);
    await output.put(`trials/${name}/run.yaml`, Buffer.from(yaml), { kind: 'always' });
  }
}

/** As the sweep ran it, but that it keeps as many checkpoints as the base config asks for. */
function trialYaml(config: RunConfig, base: RunConfig, comment: string): string {
  const { checkpointsKept } = base.training;
  return runConfigYaml({ ...config, training: { ...config.training, checkpointsKept } }, comment);
}

async function withBest(
  record: SweepRecord,
  plan: SweepPlan,
  base: RunConfig,
  { output: address }: SweepConfig,
  output: ObjectStore,
): Promise<SweepRecord> {
  const [best] = rankedTrials(record);
  const score = best?.scores.at(-1);
  if (best === undefined || score === undefined) throw new Error('a finished sweep has scores');
  const { validationLogloss, cell } = score;
  if (validationLogloss === null || cell === null) throw new Error('the best trial diverged');
  const comment =
    `The best trial of sweep ${plan.sweep} (${best.name}): validation ${plan.loss} ${validationLogloss.toFixed(5)}.\n` +
    'Its output holds what was trained; name another run and output to train it anew.';
  const yaml = trialYaml(trialNamed(plan, best.name).config, base, comment);
  await output.put('best.yaml', Buffer.from(yaml), { kind: 'always' });
  const config = joinAddress(address, 'best.yaml');
  return { ...record, best: { trial: best.name, validationLogloss, cell, config } };
}
