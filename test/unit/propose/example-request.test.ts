// A request made of the first rows of a log: keys, values and names as a server and people read them.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { openDuckSession } from '../../../coordinator/logs/duckdb-session.js';
import { findLogFiles } from '../../../coordinator/logs/log-files.js';
import { exampleRequest } from '../../../coordinator/propose/example-request.js';
import { at } from '../../../shared/base/arrays.js';
import { DataConfigSchema } from '../../../shared/config/data-config.js';
import { openedOnce } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const LOG = `shop,campaign,Name,price,site,click
north,7,Shoes,"9,5",a.example,1
north,7,Shoes,"9,5",b.example,0
north,7,Shoes,,b.example,0
south,7,It's hats,"3,0",a.example,0
south,7,It's hats,"3,0",c.example,1
,7,Nobody's,"1,0",c.example,1
`;

const folder = openedOnce(temporaryFolder);
const session = openedOnce(() => openDuckSession(folder.path, 1_024, new AbortController().signal));
beforeAll(async () => {
  await writeFile(join(folder.path, 'log.csv'), LOG);
  await session.run(
    `COPY (SELECT * REPLACE (click = 1 AS click, string_split(site, '.') AS site),
      CAST(replace(price, ',', '.') AS DOUBLE) AS bid FROM read_csv('${folder.path}/log.csv', types = {'price': 'VARCHAR'}))
      TO '${folder.path}/log.parquet' (FORMAT parquet)`,
  );
});

async function exampleOf(name: string, task: unknown, features: object[], nameColumn?: string) {
  const logs = join(folder.path, name);
  const source = { session, temporaryFolder: folder.path, objectStoreOf: () => at([], 0) };
  const file = at(await findLogFiles({ logs, format: 'auto' }, source), 0);
  const data = DataConfigSchema.parse({
    ...{ logs, store: 'store', task, features },
    label: { column: 'click' },
    rowSplit: { by: 'hash' },
    taskSplit: { by: 'hash' },
  });
  return exampleRequest(data, { file, session, nameColumn });
}

const PRICE = {
  ...{ name: 'price', kind: 'number', missing: 1 },
  expression: "TRY_CAST(replace(PRICE, ',', '.') AS DOUBLE)",
};
const SITE = { name: 'place', kind: 'category', column: 'site' };

test('columns that are the same in all rows of an adgroup describe candidates', async () => {
  const found = await exampleOf('log.csv', ['shop', 'campaign'], [PRICE, SITE], 'Name');
  expect(found).toEqual({
    body: {
      context: { site: 'a.example' },
      candidates: [
        { adgroup: ['north', '7'], features: { price: '9,5' } },
        { adgroup: ['south', '7'], features: { price: '3,0' } },
      ],
    },
    names: ['Shoes', "It's hats"],
  });
});

test('an expression names adgroups, and sees columns in the types of their texts', async () => {
  const task = { expression: 'upper(shop) || CAST(campaign + 1 AS VARCHAR)' };
  const found = await exampleOf('log.csv', task, [SITE]);
  expect(found?.names).toEqual(['NORTH8', 'SOUTH8']);
  expect(found?.body.candidates.map(({ adgroup }) => adgroup)).toEqual(['NORTH8', 'SOUTH8']);
});

test('values of typed files are those of JSON', async () => {
  const features = [
    { name: 'bid', kind: 'number', missing: 1 },
    { name: 'site', kind: 'bag' },
  ];
  const found = await exampleOf('log.parquet', 'shop', features);
  expect(found?.body.candidates[0]?.features).toEqual({ bid: 9.5 });
  expect(found?.body.context).toEqual({ site: ['a', 'example'] });
});
