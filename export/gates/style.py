"""The style sheet of the gates' report: light and dark, wide and narrow, print; nothing is fetched."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #5c5c63; --rule: #dcdce2; --paper: #fff;
  --card: #f6f6f8; --good: #1a7f37; --bad: #b81f26;
  --c0: #0b62c4; --c1: #a84a06; --c2: #6a2fb0; --c3: #0a6b5d; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --soft: #a6a6ae; --rule: #3a3a40;
  --paper: #161618; --card: #202024; --good: #56c271; --bad: #ff827d;
  --c0: #6cb0ff; --c1: #f0a05a; --c2: #c49bff; --c3: #5fd0bf; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.4rem 0 .2rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; }
.soft { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
.verdict { margin: 1.2rem 0; padding: .7rem 1rem; border-left: .3rem solid; background: var(--card);
  font-weight: 600; }
.passed { border-color: var(--good); } .failed { border-color: var(--bad); }
.findings { margin: 0; padding: 0; list-style: none; }
.findings li { padding: .6rem 0; border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0 1.2rem; }
th, td { padding: .35rem 0 .35rem 1.4rem; border-bottom: 1px solid var(--rule); text-align: right;
  vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
th { font-weight: 600; color: var(--soft); font-size: .9rem; vertical-align: bottom; }
td { font-variant-numeric: tabular-nums; }
tr.missed td { color: var(--bad); font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
  gap: 1.6rem 2rem; margin: 1.2rem 0; }
figure { margin: 0; } figcaption { font-weight: 600; line-height: 1.35; }
figure svg { display: block; width: 100%; height: auto; margin-top: .4rem; }
.keys { display: flex; flex-wrap: wrap; gap: 0 1.1rem; font-size: .9rem; color: var(--soft); }
.key { display: inline-flex; align-items: center; gap: .4rem; }
figure .key svg { width: 26px; height: 8px; margin: 0; flex: none; }
svg text { fill: var(--soft); font-size: 11px; }
svg text.limit { fill: var(--bad); paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.grid { stroke: var(--rule); stroke-width: 1; }
line.limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 2; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); }
.line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
.dot.c0 { fill: var(--c0); } .dot.c1 { fill: var(--c1); }
.dot.c2 { fill: var(--c2); } .dot.c3 { fill: var(--c3); }
@media (max-width: 40rem) { body { padding: 1.2rem 1rem 3rem; }
  th, td { padding-left: .8rem; } }
@media print { figure, li, tr { break-inside: avoid; } }
"""
