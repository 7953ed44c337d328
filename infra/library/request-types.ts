/** The types of what the functions of the library are asked, for its users. */

export type {
  AutoRequest,
  BundleLabelRequest,
  BundleRollbackRequest,
  BundlesRequest,
  CheckRequest,
  CompareRequest,
  ControlRequest,
  EvaluateRequest,
  EvaluationChoice,
  ExportChangedRequest,
  ExportRequest,
  ExtendRequest,
  OpenRequest,
  OpeRequest,
  PlanRequest,
  PolicySource,
  PrepareRequest,
  PruneRequest,
  RefreshRequest,
  ReplayRequest,
  RunConfigSource,
  SweepConfigSource,
  SweepRequest,
  SynthesizeRequest,
  TrainingStart,
  TrainRequest,
} from '../../coordinator/runs/requests.js';
export type { BoardRequest } from '../../coordinator/runs/dashboard-request.js';
export type {
  LogRequest,
  RunsRequest,
  StatusRequest,
  WaitRequest,
  WorkersRequest,
} from '../../coordinator/runs/record/record-requests.js';
