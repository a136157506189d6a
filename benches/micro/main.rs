//! Small questions, one module each: how much does one part cost, compared with the same work without it?
//!
//! `cargo bench --profile release-fast --bench micro -- PART` runs one of them, and all of them without a part. Every
//! question has a baseline in its own group that does the same work minus the thing measured, so that the difference is the
//! price. All are in one program, to link once and not seven times. Under `cargo test --bench micro` everything runs once,
//! without the largest catalogs.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]

mod catalog_plan;
mod engine;
mod hashing;
mod http;
mod image;
mod manifests;
mod planning;
mod verification;

use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Testbed;
use criterion::Criterion;
use tokio::runtime::{Builder, Runtime};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let questions =
        [hashing::ask, planning::ask, engine::ask, http::ask, manifests::ask, verification::ask, catalog_plan::ask];
    for ask in questions {
        ask(&mut criterion);
    }
    criterion.final_summary();
}

/// Whether everything is only run once, to see that it works.
fn is_trial() -> bool {
    let is_given = |name: &str| std::env::args().any(|argument| argument == name);
    is_given("--test") || !is_given("--bench")
}

/// One thread, so that the time is processor time.
fn alone() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Two threads, wherever this runs.
fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A registry on this machine with its folder in memory where possible: the disk is not measured here.
struct Registry {
    bed: Testbed,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start(runtime: &Runtime) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let bed = runtime.block_on(Testbed::over(folder.path(), Profile::default()));
        Self { bed, _folder: folder }
    }
}
