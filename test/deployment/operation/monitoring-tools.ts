/** The tools of others that read metrics, rules and dashboards: promtool of Debian, and a parser of PromQL from PyPI. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { cacheFolder, installedPython } from '../../bench/python-environment.js';

const TOOLS = join(cacheFolder(), 'prometheus-tools');
const GRAFANA = 'infra/deploy/grafana';
const PROMETHEUS = 'infra/deploy/prometheus';
export const RULE_FILES = ['rules.yml', 'alerts.yml'].map((name) => join(PROMETHEUS, name));
const RULE_TESTS = join(PROMETHEUS, 'alerts.test.yml');

/** The path of promtool. It is fetched once, and unpacked without being installed. */
export function promtool(say: (text: string) => void): string {
  const path = join(TOOLS, 'usr', 'bin', 'promtool');
  if (existsSync(path)) return path;
  const fresh = `${TOOLS}-${process.pid}`;
  say('fetching the Debian package prometheus (30 MB)');
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  execFileSync('apt-get', ['download', 'prometheus'], { cwd: fresh, stdio: 'ignore' });
  const file = readdirSync(fresh).find((name) => name.endsWith('.deb'));
  if (file === undefined) throw new Error('apt-get has fetched no package');
  execFileSync('dpkg', ['-x', file, '.'], { cwd: fresh });
  rmSync(TOOLS, { recursive: true, force: true });
  renameSync(fresh, TOOLS);
  return path;
}

/** @throws Error with the words of promtool if it finds something. It says what is odd although it ends with 0. */
export function demandCleanMetrics(tool: string, text: string): void {
  const options = { input: text, encoding: 'utf8', stdio: 'pipe' } as const;
  const said = execFileSync(tool, ['check', 'metrics'], options);
  if (said.trim() !== '') throw new Error(said);
}

export function demandSoundRules(tool: string): string {
  execFileSync(tool, ['check', 'rules', ...RULE_FILES], { stdio: 'pipe' });
  execFileSync(tool, ['test', 'rules', RULE_TESTS], { stdio: 'pipe' });
  return execFileSync(tool, ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '';
}

const DashboardSchema = z.looseObject({
  panels: z.array(z.looseObject({ targets: z.array(z.looseObject({ expr: z.string() })) })),
});

/** The expressions of the panels of all dashboards. */
function dashboardExpressions(): string[] {
  return readdirSync(GRAFANA).flatMap((name) => {
    const text = readFileSync(join(GRAFANA, name), 'utf8');
    const { panels } = DashboardSchema.parse(JSON.parse(text));
    return panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  });
}

const PARSE = `
import json, sys, promql_parser
for text in json.load(sys.stdin):
    promql_parser.parse(text)
`;

/**
 * The metrics that dashboards and rules name, and the number of the expressions of dashboards, all of which parse.
 *
 * @throws Error with the words of the parser otherwise.
 */
export function namedMetrics(say: (text: string) => void): {
  readonly names: readonly string[];
  readonly expressionCount: number;
} {
  const python = installedPython(
    {
      name: 'promql',
      requirements: 'test/deployment/operation/requirements.txt',
      size: '20 MB',
      script: 'check -- operation',
    },
    say,
  );
  // Grafana puts the chosen instances in place of its variable.
  const expressions = dashboardExpressions().map((text) => text.replaceAll('$instance', '.*'));
  execFileSync(python, ['-c', PARSE], { input: JSON.stringify(expressions), stdio: 'pipe' });
  const rules = RULE_FILES.map((path) => readFileSync(path, 'utf8'));
  const found = [...expressions, ...rules].flatMap(
    (text) => text.match(/(?<![:\w])qianmo_\w+/g) ?? [],
  );
  const names = new Set(found.map((name) => name.replace(/_(bucket|sum|count)$/, '')));
  return { names: [...names].sort(), expressionCount: expressions.length };
}
