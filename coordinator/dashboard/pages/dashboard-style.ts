/** The style of the dashboard's pages beside that of reports, whose colours and tables it uses. */

export const DASHBOARD_STYLE = `
:root {
  --wait: #9a5b00; --state-tint: 9%;
  --phase-0: #7d8794; --phase-1: #b48a5a; --phase-2: #c77700; --phase-3: #0b8a7d; --phase-4: #5a3fd0;
  --phase-5: #3f6fb5; --phase-6: #6b8e23; --phase-7: #b3407f; --phase-8: #2f9e63;
}
@media (prefers-color-scheme: dark) {
  :root {
    --wait: #f0b45c; --state-tint: 13%;
    --phase-0: #9aa4b2; --phase-1: #cfa878; --phase-2: #f0a840; --phase-3: #45c9b8; --phase-4: #a492ff;
    --phase-5: #74a7f2; --phase-6: #a9cf5a; --phase-7: #ee86bd; --phase-8: #58c894;
  }
}
.dashboard main { padding-top: 26px; max-width: 1180px; }
.dashboard main:focus { outline: none; }
.dashboard a { color: var(--accent); text-underline-offset: 2px; }
.dashboard :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 12px; top: 8px; z-index: 2; background: var(--card); padding: 6px 12px; }
.top { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 22px; padding: 12px 20px;
  border-bottom: 1px solid var(--rule); background: var(--card); }
.top .name { font-weight: 700; text-decoration: none; color: var(--ink); letter-spacing: -0.01em; }
.top nav { display: flex; flex-wrap: wrap; gap: 4px 18px; }
.top nav a { color: var(--ink-2); text-decoration: none; padding: 3px 0; }
.top nav a:hover { color: var(--ink); }
.top nav a[aria-current] { color: var(--ink); font-weight: 600; border-bottom: 2px solid var(--accent); }
#connection { margin-left: auto; color: var(--ink-2); font-size: 13.5px; }
#connection.lost { color: var(--bad); }
.crumbs { font-size: 14px; color: var(--ink-2); margin: 0 0 4px; overflow-wrap: anywhere; }
.dashboard h1 { overflow-wrap: anywhere; }
.dashboard h2 { margin-top: 40px; }
.part:empty { display: none; }
.state { display: inline-block; font-size: 13.5px; font-weight: 600; line-height: 1; padding: 5px 10px;
  border-radius: 999px; color: var(--tone); white-space: nowrap;
  background: color-mix(in srgb, var(--tone) var(--state-tint), transparent); --tone: var(--ink-2); }
.state.good { --tone: var(--good); } .state.bad { --tone: var(--bad); }
.state.wait { --tone: var(--wait); } .state.live { --tone: var(--accent); }
.stateline { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 14px; margin: 12px 0 0; }
.stateline p { margin: 0; color: var(--ink-2); overflow-wrap: anywhere; min-width: 0; }
.reason { border-left: 4px solid var(--bad); background: var(--card); border-radius: 6px;
  padding: 10px 14px; margin: 14px 0 0; overflow-wrap: anywhere; white-space: pre-wrap; }
progress { appearance: none; display: block; width: 100%; height: 8px; border: 0; border-radius: 4px;
  overflow: hidden; background: var(--rule); margin: 18px 0 0; }
progress::-webkit-progress-bar { background: var(--rule); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
.dashboard .facts { margin-top: 18px; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); }
.facts b { overflow-wrap: anywhere; }
.facts small { display: block; font-size: 12.5px; color: var(--ink-2); }
.facts + .card { margin-top: 12px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 14px 16px 10px; min-width: 0; }
figcaption { font-weight: 600; font-size: 15px; margin: 0 0 8px; }
figcaption span { display: block; font-weight: 400; color: var(--ink-2); font-size: 13.5px; }
figure .drawing { overflow-x: auto; }
figure .drawing svg { min-width: 420px; }
figure.wide { grid-column: 1 / -1; }
figure.wide .drawing svg { min-width: 640px; }
figure .drawing:has(.multiples) { overflow: visible; }
.multiples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); gap: 10px 18px; }
.multiples h3 { margin: 6px 0 0; font-size: 14px; font-weight: 600; }
.multiples h3 span { font-weight: 400; color: var(--ink-2); }
figure.wide .drawing .multiples svg { min-width: 0; max-width: 460px; }
figure details { margin: 6px 0 0; }
figure details .scroll { max-height: 320px; overflow: auto; margin-top: 8px; }
.scroll:focus-visible { outline-offset: -2px; }
.dashboard .card { padding: 10px 18px; }
.card + .note, .card + .none { margin-top: 12px; }
.card.scroll { background: linear-gradient(90deg, var(--card) 30%, transparent) left / 48px 100% local,
  linear-gradient(270deg, var(--card) 30%, transparent) right / 48px 100% local,
  linear-gradient(90deg, var(--rule), transparent) left / 14px 100% scroll,
  linear-gradient(270deg, var(--rule), transparent) right / 14px 100% scroll, var(--card);
  background-repeat: no-repeat; }
.dashboard th, .dashboard td { vertical-align: top; }
.dashboard td.text, .dashboard th.text { text-align: left; }
.dashboard td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 180px; }
.dashboard tbody th { font-weight: 400; color: var(--ink); border-bottom: 0; font-size: inherit; }
.dashboard tbody tr + tr th { border-top: 1px solid var(--rule); }
.card.tall { max-height: 460px; overflow: auto; }
.log { margin: 0; padding: 0; list-style: none;
  font: 13px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.log li { overflow-wrap: anywhere; } .log time { color: var(--ink-2); margin-right: 10px; }
.log .warning { color: var(--wait); }
.orders { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0 0; }
td .orders { flex-wrap: nowrap; gap: 8px; margin: 0; }
td .orders button { padding: 1px 10px; font-size: 14px; }
button, .dashboard input, .dashboard select { font: inherit; color: var(--ink); background: var(--card);
  border: 1px solid var(--ink-2); border-radius: 8px; padding: 6px 14px; max-width: 100%; }
button { cursor: pointer; } button:hover { border-color: var(--accent); color: var(--accent); }
button.danger { color: var(--bad); border-color: var(--bad); }
nav.choices { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 14px 0 0; color: var(--ink-2); }
nav.choices a[aria-current] { color: var(--ink); font-weight: 600; text-decoration: none; border-bottom: 2px solid var(--accent); }
form.filter { display: flex; flex-wrap: wrap; gap: 10px; align-items: end; margin: 18px 0 14px; }
form.filter :is(input, select, button) { font-size: 15px; height: 38px; }
form.filter label { display: grid; gap: 3px; font-size: 13.5px; color: var(--ink-2); min-width: 0; }
.states { list-style: none; display: flex; flex-wrap: wrap; gap: 10px 26px; margin: 16px 0 0; padding: 0; }
.pages { display: flex; gap: 18px; margin: 14px 0 0; }
.none { color: var(--ink-2); }
.nowrap { white-space: nowrap; }
@media (max-width: 520px) {
  .dashboard .card { padding: 8px 12px; } .facts b { font-size: 19px; }
  .top nav { order: 1; width: 100%; }
  .dashboard td.wrap { min-width: 300px; }
}
`;
