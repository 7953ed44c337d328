/** `GET /v1/openapi.json`: the description of the server, made of the schemas that it checks requests with. */

import { z } from 'zod';
import { ProblemSchema, RankAnswerSchema, ScoreAnswerSchema } from '../answer-schemas.js';
import { jsonAnswer, JSON_TYPE, type Endpoint } from '../endpoint.js';
import { RankingRequestSchema } from '../ranking-body.js';

export const openapiEndpoint: Endpoint = {
  method: 'GET',
  path: '/v1/openapi.json',
  answer: () => jsonAnswer((document ??= openapiDocument())),
};

let document: object | null = null;

/** Of JSON, whose numbers are finite and whose schemas know no transformations. */
function schemaOf(schema: z.ZodType): object {
  const { $schema: _, ...described } = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
  });
  return described;
}

function contentOf(mediaType: string, schema: object): object {
  return { content: { [mediaType]: { schema } } };
}

function reference(name: string): object {
  return { $ref: `#/components/schemas/${name}` };
}

const REFUSALS: Readonly<Record<string, string>> = {
  '400': 'the request does not fit',
  '401': 'no token, or another one',
  '408': 'headers or body came too late',
  '413': 'the body is too large',
  '415': 'the body has another media type',
  '429': 'too many requests wait; see Retry-After',
  '503': 'the deadline has passed, or the server stops; see Retry-After',
};

function operation(summary: string, answer: string): object {
  const problem = contentOf('application/problem+json', reference('Problem'));
  const refusals = Object.entries(REFUSALS).map(
    ([status, description]) => [status, { description, ...problem }] as const,
  );
  return {
    summary,
    security: [{ token: [] }, {}],
    requestBody: { required: true, ...contentOf(JSON_TYPE, reference('RankingRequest')) },
    responses: {
      '200': { description: summary, ...contentOf(JSON_TYPE, reference(answer)) },
      ...Object.fromEntries(refusals),
    },
  };
}

function reading(summary: string): object {
  return {
    get: { summary, responses: { '200': { description: summary, ...contentOf(JSON_TYPE, {}) } } },
  };
}

function openapiDocument(): object {
  return {
    openapi: '3.1.0',
    info: { title: 'qianmo serve', version: '1' },
    paths: {
      '/v1/rank': { post: operation('candidates in the order of their value', 'RankAnswer') },
      '/v1/score': { post: operation('what the bundle says of candidates', 'ScoreAnswer') },
      '/v1/bundle': reading('which bundle is served, and what it reads'),
      '/health/live': reading('the process answers'),
      '/health/ready': reading('requests may be sent'),
    },
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: {
        RankingRequest: schemaOf(RankingRequestSchema),
        RankAnswer: schemaOf(RankAnswerSchema),
        ScoreAnswer: schemaOf(ScoreAnswerSchema),
        Problem: schemaOf(ProblemSchema),
      },
    },
  };
}
