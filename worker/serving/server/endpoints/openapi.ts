/**
 * `GET /v1/openapi.json`: the description of the server, made of its endpoints and of the schemas that they check requests
 * with. Its examples are answered by the bundle in use.
 */

import { z } from 'zod';
import { ProblemSchema } from '../answer-schemas.js';
import { jsonAnswer, JSON_TYPE, type Endpoint, type NamedSchema } from '../endpoint.js';
import type { ServedBundle } from '../served-bundle.js';

export const openapiEndpoint: Endpoint = {
  method: 'GET',
  path: '/v1/openapi.json',
  description: {
    summary: 'this description',
    answer: { name: 'Description', schema: z.looseObject({ openapi: z.string() }) },
  },
  answer: ({ bundle, server }) => {
    const known = documents.get(bundle);
    const document = known ?? openapiDocument(server.endpoints, bundle);
    documents.set(bundle, document);
    return jsonAnswer(document);
  },
};

const documents = new WeakMap<ServedBundle, object>();

/** Of JSON, whose numbers are finite and whose schemas know no transformations. */
function schemaOf(schema: z.ZodType): object {
  const { $schema: _, ...described } = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
  });
  return described;
}

function reference({ name }: Pick<NamedSchema, 'name'>): object {
  return { $ref: `#/components/schemas/${name}` };
}

const REFUSALS_OF_ALL = {
  '401': 'no token, or another one',
  '404': 'there is no such path',
  '503': 'the deadline has passed, the server stops, or something is not durable; see Retry-After',
};
const REFUSALS_OF_POSTS = {
  '400': 'the request does not fit',
  '408': 'headers or body came too late',
  '409': 'another bundle is served than the request names',
  '413': 'the body is too large',
  '415': 'the body has another media type',
  '429': 'too many requests wait; see Retry-After',
};
const OF_POSTS = [
  { name: 'Qianmo-Deadline-Ms', schema: { type: 'integer', minimum: 1 } },
  { name: 'Qianmo-Priority', schema: { enum: ['high', 'normal', 'low'] } },
];

function operationOf(endpoint: Endpoint, bundle: ServedBundle): object {
  const { description, method, path } = endpoint;
  const { summary, answer, parameters = {} } = description;
  const isPost = method === 'POST';
  const problem = {
    'application/problem+json': { schema: reference({ name: 'Problem' }) },
  };
  const refusals = Object.entries({
    ...REFUSALS_OF_ALL,
    ...(isPost ? REFUSALS_OF_POSTS : {}),
  }).map(([status, said]) => [status, { description: said, content: problem }] as const);
  const ofPath = [...path.matchAll(/\{(.+?)\}/g)].map(([, name = '']) => ({
    ...{ name, in: 'path', required: true, schema: { type: 'string' } },
    ...{ example: parameters[name]?.(bundle) },
  }));
  const ofHead = isPost ? OF_POSTS.map((header) => ({ ...header, in: 'header' })) : [];
  return {
    summary,
    security: !isPost && endpoint.isOpen === true ? [{}] : [{ token: [] }, {}],
    ...(ofPath.length + ofHead.length === 0 ? {} : { parameters: [...ofPath, ...ofHead] }),
    ...(isPost ? { requestBody: { required: true, content: bodyOf(endpoint, bundle) } } : {}),
    responses: {
      '200': { description: summary, content: { [JSON_TYPE]: { schema: reference(answer) } } },
      ...Object.fromEntries(refusals),
    },
  };
}

function bodyOf(
  { mediaTypes, description }: Extract<Endpoint, { method: 'POST' }>,
  bundle: ServedBundle,
): object {
  const { request, example } = description;
  return Object.fromEntries(
    mediaTypes.map((mediaType) => [
      mediaType,
      mediaType === JSON_TYPE
        ? { schema: reference(request), example: example(bundle) }
        : { schema: { type: 'string', format: 'binary' } },
    ]),
  );
}

function openapiDocument(endpoints: readonly Endpoint[], bundle: ServedBundle): object {
  const paths: Record<string, Record<string, object>> = {};
  const schemas: Record<string, object> = { Problem: schemaOf(ProblemSchema) };
  for (const endpoint of endpoints) {
    const ofPath = (paths[endpoint.path] ??= {});
    ofPath[endpoint.method.toLowerCase()] = operationOf(endpoint, bundle);
    const { answer } = endpoint.description;
    schemas[answer.name] ??= schemaOf(answer.schema);
    if (endpoint.method !== 'POST') continue;
    const { request } = endpoint.description;
    schemas[request.name] ??= schemaOf(request.schema);
  }
  return {
    openapi: '3.1.0',
    info: { title: 'qianmo serve', version: '1' },
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas,
    },
  };
}
