import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { CSV_COLUMNS } from '../../../coordinator/synthesize/synthesize.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { loadConfig } from '../../../shared/config/yaml-file.js';
import { SWEEP_CONFIG } from '../../../shared/config/sweep-config.js';

const examples = new URL('../../../infra/examples/', import.meta.url);
const pathOf = (name: string): string => new URL(name, examples).pathname;

describe('the example configs', () => {
  it('all parse', async () => {
    const names = (await readdir(examples)).filter((name) => name.endsWith('.yaml'));
    expect(names).toContain('movielens.yaml');
    expect(names).toContain('synthetic.yaml');
    for (const name of names) {
      if (name.endsWith('sweep.yaml')) await loadConfig(SWEEP_CONFIG, pathOf(name));
      else await loadConfig(RUN_CONFIG, pathOf(name));
    }
  });

  it('the synthetic run names columns that the log has, and hides the truth from the model', async () => {
    const { data, evaluation } = await loadConfig(RUN_CONFIG, pathOf('synthetic.yaml'));
    const columns: readonly string[] = CSV_COLUMNS;
    const used = data.features.map((feature) => feature.column ?? feature.name);
    for (const column of used) expect(columns).toContain(column);
    expect(used).not.toContain('p_true');
    expect(used).not.toContain('click');
    expect(used).not.toContain('adgroup');
    expect(evaluation.oracleColumn).toBe('p_true');
    const user = data.features.find((feature) => feature.name === 'user');
    expect(user).toMatchObject({ hashBuckets: 1_000_000 });
  });
});

it('the demo data is the unchanged data set, with its notice next to it', async () => {
    const csv = gunzipSync(await readFile(pathOf('movielens/movielens.csv.gz')));
    const sha256 = createHash('sha256').update(csv).digest('hex');
    expect(await readFile(pathOf('movielens/README.md'), 'utf8')).toContain(sha256);
    expect(csv.toString('utf8').split('\n')).toHaveLength(100_006);
    const notice = await readFile(pathOf('movielens/NOTICE'), 'utf8');
    expect(notice).toContain('Harper');
    expect(notice).toContain('same');
  });
