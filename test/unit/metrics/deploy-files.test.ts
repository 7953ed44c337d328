import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { METRIC_NAMES } from '../../../shared/metrics/metric-definitions.js';

const FOLDERS = ['infra/deploy/grafana', 'infra/deploy/prometheus'];
const files = FOLDERS.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));

it.each(files)('%s names metrics that are defined', (path) => {
  const text = readFileSync(path, 'utf8');
  const names = [...text.matchAll(/(?<![:\w])qianmo_\w+/g)].map(([name]) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  );
  expect(names.length).toBeGreaterThan(0);
  expect(names.filter((name) => !METRIC_NAMES.some((each) => each === name))).toEqual([]);
});

it('alerts lead to sections of the runbook', () => {
  const headings = readFileSync('infra/docs/runbook.md', 'utf8').matchAll(/^## (.+)$/gm);
  const anchors = [...headings].map(([, text = '']) =>
    text
      .toLowerCase()
      .replaceAll(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  );
  const alerts = readFileSync('infra/deploy/prometheus/alerts.yml', 'utf8');
  const links = [...alerts.matchAll(/runbook_url: infra\/docs\/runbook\.md#(\S+)/g)];
  expect(links).toHaveLength([...alerts.matchAll(/- alert:/g)].length);
  expect(links.map(([, anchor]) => anchor).filter((each) => !anchors.includes(each ?? ''))).toEqual(
    [],
  );
});
