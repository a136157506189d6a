//! A few seconds of `benches/serve_fuzz.rs`, so that it keeps working.

use std::time::Duration;

/// Another seed draws other requests.
const SEED: u64 = 20_260_501;

#[test]
fn mutated_requests_end_no_server_and_lose_nothing_that_was_acknowledged() {
    let plan = testkit::serve_fuzz::Plan {
        program: env!("CARGO_BIN_EXE_autonomy"),
        seed: SEED,
        time: Duration::from_secs(60),
        requests: 2_500,
        pause: 250,
        servers: 2,
    };
    let outcome = testkit::serve_fuzz::run(plan);
    assert!(outcome.faults.is_empty(), "{} faults, the first: {}", outcome.faults.len(), outcome.faults[0]);
    assert!(outcome.requests >= 2_500 && outcome.restarts > 0 && outcome.collections > 0, "{outcome:?}");
    assert!(outcome.blobs > 50 && outcome.peak_kib > 0, "{outcome:?}");
    // Most requests must pass parsing and get an answer, or little is tested.
    let answered = |class: u16| outcome.answers.range(class..class + 100).map(|(_, count)| count).sum::<u64>();
    assert!(answered(200) > 500 && answered(400) > 300 && outcome.unanswered < outcome.requests / 4, "{outcome:?}");
}
