/** Sweeps many runs of one base config, narrowed down on the validation adgroups. */

import type { z } from 'zod';
import {
  checkedRunConfig,
  loadUncheckedRunConfig,
  runConfigYaml,
} from '../../shared/config/load-run-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { SweepConfig } from '../../shared/config/sweep-config.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import {
  readValidationRows,
  validationCells,
  validationCriterionOf,
} from '../evaluation/validation-score.js';
import { wordsOf } from '../reports/label-words.js';
import { sweepHtml } from '../reports/sweep/sweep-page.js';
import { runSweep } from '../sweep/run-sweep.js';
import { rungsOf } from '../sweep/rungs.js';
import { openSweepJournal, type SweepJournal } from '../sweep/sweep-journal.js';
import {
  emptyRecord,
  rankedTrials,
  type SweepPlan,
  type SweepRecord,
} from '../sweep/sweep-record.js';
import { planTrials, type Trial } from '../sweep/trials.js';
import { placeOf, sweepConfigOf } from './config-sources.js';
import { dispatchForRun } from './dispatch-for-run.js';
import { interruptedAs } from './call/interruption.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import { configReaderOf } from './places.js';
import type { SweepRequestSchema } from './requests.js';
import type { RunContext } from './call/run-context.js';
import { claimedPlace, joinAddress, objectStoreOf, openStoreAsPrepared } from './run-files.js';
import { trialNamed, trialWork } from './sweep-trials.js';

type SweepOrder = z.output<typeof SweepRequestSchema>;

export async function sweepRuns(request: SweepOrder, context: RunContext): Promise<SweepRecord> {
  const { environment } = context;
  const sweep = await sweepConfigOf(request.config, environment);
  const uncheckedBase = await loadUncheckedRunConfig(sweep.base, configReaderOf(environment));
  const base = checkedRunConfig(uncheckedBase, sweep.base);
  const place = placeOf(request.config);
  const trials = planTrials(sweep, uncheckedBase, place);
  const rungs = rungsOf(trials.length, base.training.outerSteps, sweep.halving, place);
  const planned = { sweep, base, trials, rungs };
  const { sweep: run, output } = sweep;
  const logged = loggedCallOf({ run, output, storage: base.storage });
  const sweeping = loggedRun(logged, context, (inner) => sweepTrials(planned, request, inner));
  return interruptedAs(sweeping, () => ({
    what: 'the sweep was stopped; its scores and the checkpoints of unfinished trials are kept',
    where: sweep.output,
    cure: 'continue with `qianmo sweep sweep.yaml --resume`',
  }));
}

interface PlannedSweep {
  readonly sweep: SweepConfig;
  readonly base: RunConfig;
  readonly trials: readonly Trial[];
  readonly rungs: SweepPlan['rungs'];
}

async function sweepTrials(
  { sweep, base, trials, rungs }: PlannedSweep,
  request: SweepOrder,
  context: RunContext,
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
  const journal = await openSweepJournal(output, emptyRecord(plan), request);
  const { dispatcher } = await dispatchForRun(base, sweep.sweep, request, context);
  const work = trialWork(plan, { store, validation }, dispatcher, context);
  // The journal fences a coordinator off that has lost the claim.
  const claim = await claimedPlace(base, { run: sweep.sweep, address: sweep.output }, context);
  if (claim !== null) context.onClose(() => claim.release());
  // A checkpoint of an earlier sweep beyond a rung would be scored in place of the rung.
  if (request.fresh) await discardEarlierTrials(output);
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
  const { trial, yaml, ...score } = bestOf(finished, plan, base);
  await output.put('best.yaml', Buffer.from(yaml), { kind: 'always' });
  const config = joinAddress(sweep.output, 'best.yaml');
  const record = { ...finished, best: { trial, ...score, config } };
  await saveWithPage(record, journal, output);
  context.sink({ kind: 'report-written', address: joinAddress(sweep.output, 'sweep.html') });
  return record;
}

/** Deletes the trial checkpoints of whatever sweep used this output before. */
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

/** Writes a config for each trial, which `train --resume` and `evaluate` accept. */
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

/** The config that the sweep used, but with as many checkpoints kept as the base config asks for. */
function trialYaml(config: RunConfig, base: RunConfig, comment: string): string {
  const { checkpointsKept } = base.training;
  return runConfigYaml({ ...config, training: { ...config.training, checkpointsKept } }, comment);
}

interface BestTrial extends Omit<NonNullable<SweepRecord['best']>, 'config'> {
  /** Its config. */
  readonly yaml: string;
}

function bestOf(record: SweepRecord, plan: SweepPlan, base: RunConfig): BestTrial {
  const [best] = rankedTrials(record);
  const score = best?.scores.at(-1);
  if (best === undefined || score === undefined) throw new Error('a finished sweep has scores');
  const { validationLogloss, cell } = score;
  if (validationLogloss === null || cell === null) throw new Error('the best trial diverged');
  const comment =
    `The best trial of sweep ${plan.sweep} (${best.name}): validation ${plan.loss} ${validationLogloss.toFixed(5)}.\n` +
    'Its output holds the trained checkpoint; change run and output to train it again.';
  const yaml = trialYaml(trialNamed(plan, best.name).config, base, comment);
  return { trial: best.name, validationLogloss, cell, yaml };
}
