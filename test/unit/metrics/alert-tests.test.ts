/**
 * The alerts and rules of Prometheus have tests: `npm run check -- operation` has promtool carry them out, and here none
 * is missing.
 */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

const FOLDER = 'infra/deploy/prometheus';

const RuleFileSchema = z.strictObject({
  groups: z.array(
    z.looseObject({
      rules: z.array(
        z.looseObject({
          alert: z.string().optional(),
          record: z.string().optional(),
          labels: z.record(z.string(), z.string()).optional(),
          annotations: z.record(z.string(), z.string()).optional(),
        }),
      ),
    }),
  ),
});

const TestFileSchema = z.looseObject({
  rule_files: z.array(z.string()),
  tests: z.array(
    z.looseObject({
      alert_rule_test: z
        .array(
          z.strictObject({
            eval_time: z.string(),
            alertname: z.string(),
            exp_alerts: z.array(
              z.strictObject({
                exp_labels: z.record(z.string(), z.string()),
                exp_annotations: z.record(z.string(), z.string()),
              }),
            ),
          }),
        )
        .default([]),
      promql_expr_test: z.array(z.looseObject({ expr: z.string() })).default([]),
    }),
  ),
});

function read(name: string): unknown {
  return parse(readFileSync(`${FOLDER}/${name}`, 'utf8'));
}

const rules = ['alerts.yml', 'rules.yml'].flatMap((name) =>
  RuleFileSchema.parse(read(name)).groups.flatMap((group) => group.rules),
);
const alerts = rules.flatMap(({ alert, labels, annotations }) =>
  alert === undefined ? [] : [{ alert, labels, annotations }],
);
const recorded = rules.flatMap(({ record }) => (record === undefined ? [] : [record]));
const tests = TestFileSchema.parse(read('alerts.test.yml'));
const asked = tests.tests.flatMap((test) => test.alert_rule_test);

it('the tests load every file of rules', () => {
  expect([...tests.rule_files].sort()).toEqual(['alerts.yml', 'rules.yml']);
});

describe.each(alerts)('$alert', ({ alert, labels = {}, annotations = {} }) => {
  const ofAlert = asked.filter(({ alertname }) => alertname === alert);

  it('is seen to fire, with its severity and its section of the runbook', () => {
    const fired = ofAlert.flatMap((test) => test.exp_alerts);
    expect(fired).not.toEqual([]);
    for (const { exp_labels, exp_annotations } of fired) {
      expect(exp_labels['severity']).toBe(labels['severity']);
      expect(exp_annotations['runbook']).toBe(annotations['runbook']);
    }
  });

  it('is seen not to fire', () => {
    expect(ofAlert.filter((test) => test.exp_alerts.length === 0)).not.toEqual([]);
  });
});

it('tests name no alert that is gone', () => {
  const known = new Set(alerts.map(({ alert }) => alert));
  expect(asked.filter(({ alertname }) => !known.has(alertname))).toEqual([]);
});

it('every rate and quantile that is recorded is tested', () => {
  const expressions = tests.tests.flatMap((test) => test.promql_expr_test.map(({ expr }) => expr));
  expect(recorded.filter((name) => !expressions.includes(name))).toEqual([]);
});
