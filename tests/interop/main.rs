//! Real registries and real clients against this program, each started here on loopback.
//!
//! `tests/run` names the folder of the peers in `AUTONOMY_PEERS_BIN`; without it every check is ignored, with the reason.
//! With `CI=true` a missing peer is a failure. Every check reads the destination with a third-party client.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "this is a test runner")]

mod alone;
mod attached;
mod clients;
mod copies;
mod cosign;
mod everyday;
mod installing;
mod links;
mod logins;
mod matrix;
mod modes;
mod peers;
mod rollback;
mod screens;
mod secured;
mod signatures;
mod subsets;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use peers::Peers;

/// One named check and the peers that it requires.
struct Case {
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(&Peers),
}

const SUITES: &[&[Case]] = &[
    copies::CASES,
    clients::CASES,
    secured::CASES,
    signatures::CASES,
    matrix::CASES,
    modes::CASES,
    attached::CASES,
    rollback::CASES,
    everyday::CASES,
    subsets::CASES,
    links::CASES,
    logins::CASES,
    alone::CASES,
    installing::CASES,
    screens::CASES,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The checks start registries on ports that were free a moment ago, and some of them measure time.
    arguments.test_threads.get_or_insert(1);
    let peers = Arc::new(Peers::from_environment());
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let trial = |case: &'static Case| {
        let peers = Arc::clone(&peers);
        Trial::ignorable_test(case.name, move || run(case, &peers, is_ci))
    };
    libtest_mimic::run(&arguments, SUITES.iter().copied().flatten().map(trial).collect()).exit_code()
}

/// Runs one check. A missing peer fails in CI; elsewhere it skips the check. zot may be missing anywhere.
fn run(case: &Case, peers: &Peers, is_ci: bool) -> Result<Completion, Failed> {
    match case.needs.iter().find(|name| !peers.has(name)) {
        Some(missing) => {
            let reason = format!("no {missing} ({})", peers::how_to_get(missing));
            if is_ci && *missing != "zot" { Err(reason.into()) } else { Ok(Completion::ignored_with(reason)) }
        }
        None => {
            (case.run)(peers);
            Ok(Completion::Completed)
        }
    }
}
