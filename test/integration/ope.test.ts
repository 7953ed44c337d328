/** `qianmo ope` on tables and on decision logs, as a user calls it. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ope, replayDecisions } from '../../infra/library/index.js';
import { decide } from '../../worker/serving/exploration/chooser.js';
import { feedbackLine } from '../../shared/config/row-record.js';
import {
  decisionLine,
  feedbackOn,
  inputOf,
  rowLogHead,
  settingsOf,
} from '../fixtures/decision-input.js';
import { openedOnce } from '../fixtures/opened.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';
import { expectFailureOf } from '../fixtures/failures.js';

const folder = openedOnce(temporaryFolder);

const written = async (name: string, text: string): Promise<string> => {
  const path = join(folder.path, name);
  await writeFile(path, text);
  return path;
};

describe('a table of choices', () => {
  it('is read by the names of its columns', async () => {
    const path = await written(
      'choices.csv',
      'click,p,p_new,q,v\n1,0.5,0.25,0.6,0.3\n0,0.5,0.5,0.2,0.4\n1,0.2,0.8,0.5,0.5\n',
    );
    const columns = {
      reward: 'click',
      propensity: 'p',
      target: 'p_new',
      estimate: 'q',
      targetEstimate: 'v',
    };
    const { estimates, log } = await ope({ logs: [path], columns });
    const values = estimates.map(({ estimator, interval }) => [estimator, interval?.value]);
    expect(Object.fromEntries(values)).toMatchObject({ ips: 1.5, snips: 4.5 / 5.5 });
    expect(log).toBeNull();
  });

  it.each([
    ['propensity,target,reward\n0,0.5,1\n', /the propensity 0 in row 1/],
    ['propensity,target,reward\n0.5,1.5,1\n', /the target propensity 1.5 in row 1/],
    ['propensity,target,reward\n0.5,0.5,yes\n', /a reward that is not a number in row 1/],
  ])('with a value that cannot be is refused: %s', async (text, found) => {
    const path = await written('bad.csv', text);
    await expectFailureOf(ope({ logs: [path] }), 'data', { found });
  });

  it('takes a row that names no decision as one of its own', async () => {
    const path = await written(
      'named.csv',
      'propensity,target,reward,request\n0.5,0.5,1,1\n0.5,0.5,0,\n0.5,0.5,1,\n0.5,0.5,1,1\n',
    );
    const { decisionCount } = await ope({ logs: [path], columns: { decision: 'request' } });
    expect(decisionCount).toBe(3);
  });

  it('without a column names those that are there', async () => {
    const path = await written('other.csv', 'propensity,targets,reward\n0.5,0.5,1\n');
    await expectFailureOf(ope({ logs: [path] }), 'usage', { cure: /did you mean "targets"\?/ });
  });
});

describe('a row log', () => {
  const settings = settingsOf({
    share: { kind: 'fixed', share: 0.5 },
    feedback: { windowSeconds: 1 },
  });
  const lines = Array.from({ length: 30 }, (_, index) =>
    decisionLine(decide(inputOf(settings, { id: `r${index}`, epochMs: index * 1000 }))),
  );

  const head = rowLogHead(settings);
  const impressions = feedbackLine(
    lines.flatMap((_, index) =>
      [1, 2].map((slot) => feedbackOn(`r${index}`, index * 1000, { slot })),
    ),
  );

  it('replays bit for bit, and tells which decisions do not', async () => {
    const path = await written('decisions.ndjson', [head, ...lines, impressions].join(''));
    expect(await replayDecisions({ logs: [path] })).toEqual({
      decisionCount: 30,
      differingCount: 0,
      scores: null,
      differing: [],
    });
    const changed = lines.map((line) =>
      line.includes('"id":"r7"')
        ? line.replace(
            /"isExploration":\[(true|false)/,
            (_, was) => `"isExploration":[${was === 'false'}`,
          )
        : line,
    );
    const other = await written('changed.ndjson', [head, ...changed].join(''));
    expect((await replayDecisions({ logs: [other] })).differing).toEqual(['r7']);
  });

  it('is judged under its own policy', async () => {
    const path = await written('decisions.ndjson', [head, ...lines, impressions].join(''));
    const { weights, log } = await ope({ logs: [path] });
    expect(weights.mean?.value).toBeCloseTo(1, 9);
    expect(log).toMatchObject({ decisionCount: 30, immatureCount: 4 });
  });

  it('is not mixed with tables, and names a broken line', async () => {
    const path = await written('broken.ndjson', `${head}{"kind":"ranking"\n`);
    await expect(ope({ logs: [path, 'choices.csv'] })).rejects.toMatchObject({ kind: 'usage' });
    await expectFailureOf(ope({ logs: [path] }), 'data', { where: `${path}:2` });
    await expect(ope({ logs: [join(folder.path, 'none.ndjson')] })).rejects.toMatchObject({
      kind: 'environment',
    });
  });
});
