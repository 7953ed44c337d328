/**
 * The one stream of typed run events: the terminal, the log, the report and later metrics and pages
 * all read this and nothing else.
 */

export type RunEvent =
  | {
      readonly kind: 'run-started';
      readonly runId: string;
      readonly outerStep: number;
      readonly outerSteps: number;
    }
  | {
      readonly kind: 'outer-step';
      readonly outerStep: number;
      readonly outerSteps: number;
      readonly queryLoss: number;
      readonly supportLoss: number;
      readonly gradientNorm: number;
      readonly tasksPerSecond: number;
    }
  | {
      readonly kind: 'checkpoint';
      readonly outerStep: number;
      readonly address: string;
      readonly digest: string;
    }
  | {
      readonly kind: 'worker';
      readonly state: 'started' | 'exited' | 'restarted';
      readonly detail: string;
    }
  | { readonly kind: 'job-retried'; readonly jobIndex: number; readonly reason: string }
  | {
      readonly kind: 'progress';
      readonly stage: string;
      readonly done: number;
      readonly total: number | null;
    }
  | { readonly kind: 'notice'; readonly message: string }
  | { readonly kind: 'warning'; readonly message: string }
  | {
      readonly kind: 'run-finished';
      readonly outerStep: number;
      readonly address: string;
      readonly digest: string;
    };

export type RunEventSink = (event: RunEvent) => void;
