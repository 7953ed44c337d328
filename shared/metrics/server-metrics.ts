/** The metrics of ranking servers. */

import type { MetricDefinition } from './metric-definition.js';

const server = { from: ['server'] } as const;

const REQUEST_BUCKETS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
] as const;

export const OF_SERVERS = {
  qianmo_requests_total: {
    kind: 'counter',
    ...server,
    labels: { route: null, status: ['2xx', '3xx', '4xx', '5xx'] },
    help: 'Requests by route and class of status.',
  },
  qianmo_request_seconds: {
    ...{ kind: 'histogram', ...server, labels: { route: null }, buckets: REQUEST_BUCKETS },
    help: 'Time from the arrival of a request to the end of its answer.',
  },
  qianmo_requests_refused_total: {
    ...{ kind: 'counter', ...server, labels: { reason: null } },
    help: 'Requests that were refused, by reason.',
  },
  qianmo_requests_abandoned_total: {
    kind: 'counter',
    ...server,
    help: 'Requests whose client left before the answer.',
  },
  qianmo_requests_waiting: {
    kind: 'gauge',
    ...server,
    together: 'sum',
    help: 'Requests that wait for the scorer.',
  },
  qianmo_bundle_info: {
    ...{ kind: 'gauge', ...server, labels: { role: ['stable', 'canary'], bundle: null } },
    help: 'The bundles that answer requests, by their digests; always 1.',
  },
  qianmo_bundle_swaps_total: {
    kind: 'counter',
    ...server,
    together: 'max',
    help: 'Bundles that took the place of another.',
  },
  qianmo_bundle_refusals_total: {
    kind: 'counter',
    ...server,
    help: 'Looks at a bundle that was refused, one at every poll where the reason may pass.',
  },
  qianmo_last_bundle_swap_timestamp_seconds: {
    kind: 'gauge',
    ...server,
    help: 'When a bundle was served first, since the epoch.',
  },
  qianmo_label_failures_total: {
    kind: 'counter',
    ...server,
    help: 'Looks at the label of a bundle that failed, one at every poll.',
  },
  qianmo_decisions_total: {
    kind: 'counter',
    ...server,
    help: 'Slates that the policy of exploration decided.',
  },
  qianmo_explored_slots_total: {
    kind: 'counter',
    ...server,
    help: 'Places of slates that exploration gave to an adgroup.',
  },
  qianmo_decided_slots_total: {
    kind: 'counter',
    ...server,
    help: 'Places of slates that the policy decided: exploration has a share of these.',
  },
  qianmo_feedback_impressions_total: {
    ...{ kind: 'counter', ...server, labels: { bundle: null, segment: null } },
    help: 'Impressions that feedback reported, by the bundle that predicted and the segment.',
  },
  qianmo_predicted_outcomes_total: {
    ...{ kind: 'counter', ...server, labels: { bundle: null, segment: null } },
    help: 'Sum of the probabilities p that were predicted of those impressions.',
  },
  qianmo_predicted_outcome_variance_total: {
    ...{ kind: 'counter', ...server, labels: { bundle: null, segment: null } },
    help: 'Sum of p (1 - p): the variance of their outcomes if the probabilities are right.',
  },
  qianmo_observed_outcomes_total: {
    ...{ kind: 'counter', ...server, labels: { bundle: null, segment: null } },
    help: 'Sum of the rewards that feedback reported, by the bundle that predicted and the segment.',
  },
  qianmo_exploration_failed: {
    kind: 'gauge',
    ...server,
    help: '1 while requests are ranked without exploration because its state fails.',
  },
  qianmo_scored_candidates_total: {
    kind: 'counter',
    ...server,
    help: 'Candidates that were scored.',
  },
  qianmo_unknown_adgroups_total: {
    kind: 'counter',
    ...server,
    help: 'Candidates that were scored whose adgroup the bundle does not have.',
  },
  qianmo_server_processes: {
    ...{ kind: 'gauge', ...server, labels: { state: ['wanted', 'ready'] } },
    help: 'Processes that answer on the port.',
  },
  qianmo_server_process_exits_total: {
    kind: 'counter',
    ...server,
    help: 'Processes of the server that ended by themselves.',
  },
  qianmo_request_bugs_total: { kind: 'counter', ...server, help: 'Requests that ran into a bug.' },
} as const satisfies Readonly<Record<string, MetricDefinition>>;
