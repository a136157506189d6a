//! Real registries and real clients against this program, each started here on loopback.
//!
//! `tests/run` names the folder of the peers in `AUTONOMY_PEERS_BIN`; without it nothing runs and everything counts as
//! skipped. With `CI=true` a missing peer is a failure. Every check reads the destination with a client that is not ours.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "this is a test runner")]

mod alone;
mod attached;
mod clients;
mod copies;
mod cosign;
#[expect(dead_code, unused_imports, reason = "shared with the other test program, which needs more of it")]
#[path = "../it/images/mod.rs"]
mod images;
mod links;
mod logins;
mod matrix;
mod modes;
mod peers;
#[path = "../it/rekor.rs"]
mod rekor;
mod rollback;
mod secured;
mod signatures;
mod subsets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use peers::Peers;

/// One named check and the peers that it cannot do without.
struct Case {
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(&Peers),
}

fn main() -> ExitCode {
    let peers = Peers::from_environment();
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let suites = [
        copies::CASES,
        clients::CASES,
        secured::CASES,
        signatures::CASES,
        matrix::CASES,
        modes::CASES,
        attached::CASES,
        rollback::CASES,
        subsets::CASES,
        links::CASES,
        logins::CASES,
        alone::CASES,
    ];
    for case in suites.into_iter().flatten() {
        if filter.as_ref().is_some_and(|filter| !case.name.contains(filter.as_str())) {
            continue;
        }
        if let Some(missing) = case.needs.iter().find(|name| !peers.has(name)) {
            println!("skipped: {}: no {missing} ({})", case.name, peers::how_to_get(missing));
            if is_ci && *missing != "zot" {
                failed += 1;
            } else {
                skipped += 1;
            }
            continue;
        }
        // The panic's own message has been printed by the time it is caught.
        match catch_unwind(AssertUnwindSafe(|| (case.run)(&peers))) {
            Ok(()) => {
                passed += 1;
                println!("ok: {}", case.name);
            }
            Err(_) => {
                failed += 1;
                println!("FAILED: {}", case.name);
            }
        }
    }
    println!("interop: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
