/** The values of the chart: a schema that knows every field and refuses others. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { DEPLOY, documentsIn } from '../../deployment/manifests.js';

type Schema = Readonly<Record<string, unknown>>;
const Fields = z.record(z.string(), z.unknown());
const CHART = join(DEPLOY, 'chart');

const schema: Schema = Fields.parse(
  JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8')),
);
const values = Fields.parse(documentsIn(join(CHART, 'values.yaml'))[0]);
const definitions = Fields.parse(schema['definitions']);

function followed(node: Schema): Schema {
  const name = /^#\/definitions\/(.*)$/.exec(z.string().optional().parse(node['$ref']) ?? '')?.[1];
  return name === undefined ? node : Fields.parse(definitions[name]);
}

/** The schemas below a schema, with their paths. */
function* below(node: unknown, path: string): Generator<readonly [string, Schema]> {
  if (typeof node !== 'object' || node === null) return;
  const fields = Array.isArray(node) ? Object.entries(node) : Object.entries(Fields.parse(node));
  if (!Array.isArray(node)) yield [path, Fields.parse(node)];
  for (const [name, child] of fields) yield* below(child, `${path}/${name}`);
}

describe('the schema of values', () => {
  test('every object in it is closed', () => {
    const open = [...below(schema, '')]
      .filter(([path, node]) => node['type'] === 'object' && path !== '/properties/global')
      .filter(([, node]) => node['additionalProperties'] === undefined)
      .map(([path]) => path);
    expect(open).toEqual([]);
  });

  test('it knows the fields of values.yaml, and no others', () => {
    const compare = (node: Schema, value: unknown, path: string): void => {
      const properties = Fields.optional().parse(followed(node)['properties']);
      if (properties === undefined || typeof value !== 'object' || value === null) return;
      const found = Fields.parse(value);
      const known = Object.keys(properties).filter(
        (name) => name !== 'global' && !path.endsWith('/requests') && !path.endsWith('/limits'),
      );
      expect({ path, names: Object.keys(found).sort() }).toEqual({
        path,
        names: known.length === 0 ? Object.keys(found).sort() : known.sort(),
      });
      for (const name of known)
        compare(Fields.parse(properties[name]), found[name], `${path}/${name}`);
    };
    compare(schema, values, '');
    const pools = Fields.parse(values['pools']);
    compare(Fields.parse(definitions['pool']), pools['cpu'], '/pools/cpu');
  });
});
