/** The methods of the client beside `rank` and `score`, against a real server with every endpoint. */

import { beforeAll, describe, expect, test } from 'vitest';
import { RankingClient } from '../../../infra/library/client.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { RANKED } from '../../fixtures/serving/served-export.js';
import { wholeServer } from '../../fixtures/serving/whole-server.js';
import { openedOnce } from '../../fixtures/opened.js';

describe('the client of a server that explores and adapts', () => {
  const room = openedOnce(temporaryFolder);
  const own = openedOnce(() => wholeServer(room.path));
  let client: RankingClient;
  beforeAll(() => {
    client = new RankingClient({ url: own.url, timeoutMs: 30_000 });
  });
  const got = async (path: string): Promise<unknown> => (await fetch(own.url + path)).json();
  test('has a method for every path beside those of health and of the other protocol', () => {
    const calls = [
      ...['POST /v1/rank', 'POST /v1/score', 'POST /v1/feedback', 'POST /v1/adapt'],
      ...['POST /v1/adgroups', 'GET /v1/adgroups/{adgroup}'],
      ...['GET /v1/bundle', 'GET /v1/dictionaries/{feature}'],
      ...['GET /v1/exploration', 'GET /v1/exploration/{adgroup}'],
    ];
    const paths = own.endpoints.filter(({ path }) => path.startsWith('/v1/'));
    expect(paths.map(({ method, path }) => `${method} ${path}`).sort()).toEqual(calls.sort());
  });

  test('reports what was shown, each event once, and reads what the server learned of it', async () => {
    const { exploration } = await client.rank({ ...RANKED, slots: 1 });
    const [event = ''] = (exploration as { readonly events: readonly string[] }).events;
    const outcome = { kind: 'outcome', event, reward: 1 } as const;
    const sent = [{ kind: 'impression', event }, outcome] as const;
    expect(await client.feedback(sent)).toEqual(['counted', 'counted']);
    expect(await client.feedback([outcome])).toEqual(['duplicate']);
    for (const { adgroup } of RANKED.candidates)
      expect(await client.exploredAdgroup(adgroup)).toEqual(
        await got(`/v1/exploration/${adgroup}`),
      );
    const { all } = await client.exploredAdgroup('task1');
    expect(all.impressions).toBe(1);
    expect(await client.exploration()).toMatchObject({ decisions: 1 });
    expect((await client.exploredAdgroup(['a/b', 'c'])).adgroup).toBe('a/b\u001fc');
  });

  test('adapts an adgroup, and reads the bundle and its dictionaries', async () => {
    const { features, bundle } = await client.bundle();
    expect(features.map(({ name }) => name)).toContain('category0');
    expect(await client.dictionary('category0')).toEqual(await got('/v1/dictionaries/category0'));
    await expect(client.dictionary('none')).rejects.toThrow(/no feature of this name/);
    const row = { category0: 'category0-1', category1: 'category1-1', bag0: [], number0: 0.5 };
    const request = { adgroup: 'task1', rows: [{ features: row, label: 1 }] };
    const adapted = { bundle, live: true, evidence: { supportRows: 1 } };
    for (let time = 0; time < 2; time += 1)
      expect(await client.adapt(request)).toMatchObject(adapted);
  });

  test('tells the server of an adgroup, and ranks columns', async () => {
    const features = { category1: ['category1-1'], bag0: [[]], number0: [0.5] };
    const candidates = { adgroup: ['task1'], features };
    const { scores } = await client.rank({ ...RANKED, candidates, fields: ['scores'] });
    expect(scores).toEqual([expect.any(Number)]);
    await client.adgroup({ adgroup: 'told', attributes: { number0: 0.5 } });
    const shown = { adgroup: 'told', state: 'active', attributes: { number0: 0.5 } };
    expect(await client.describedAdgroup('told')).toEqual({ ...shown, segment: null });
    // The catalog gives the attribute that the rows lack.
    await client.adgroup({ adgroup: 'task1', attributes: { number0: 0.5 } });
    const row = { category0: 'category0-1', category1: 'category1-1', bag0: [] };
    const adapting = { adgroup: 'task1', rows: [{ features: row, label: 1 }] };
    expect(await client.adapt(adapting)).toMatchObject({ live: true });
    await expect(client.describedAdgroup('untold')).rejects.toThrow(/no such adgroup/);
    await expect(client.adgroup({ adgroup: 'told', segment: 'nowhere' })).rejects.toMatchObject({
      report: { found: expect.stringContaining('nowhere') as string },
    });
  });
});
