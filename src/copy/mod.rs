//! The engine: graph, presence, plan, schedule, transfer, report.
