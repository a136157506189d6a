//! Does any request end the server, make it answer 5xx, or cost it acknowledged content?
//!
//! Run `cargo bench --bench serve_fuzz [-- [--seconds N] [--seed N] [--servers 1|2]]`; by default an hour and two servers.
//! Eight clients send requests to `autonomy registry serve`, three out of four of them with changed parts or bytes, broken
//! off, or several at once. Every few thousand requests a server is killed and restarted, a second one starts or stops on
//! the same folder, or garbage is collected. In the end every blob on the disk is hashed, and all acknowledged content is
//! requested.
//!
//! It prints each fault at once, with the bytes of the request, and ends with exit code 1 if there was one. The same seed
//! draws the same requests.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "prints its result")]

use std::time::Duration;

use testkit::serve_fuzz::{self, Outcome, Plan};

/// Requests between two events.
const PAUSE: u64 = 3_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        let value = arguments.get(at + 1).and_then(|value| value.parse().ok());
        Some(value.unwrap_or_else(|| panic!("{name} takes a number")))
    };
    let seconds = number("--seconds").unwrap_or(3_600);
    let servers = number("--servers").unwrap_or(2);
    let drawn = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let seed = number("--seed").unwrap_or(drawn);
    println!("seed {seed}, {seconds} s");
    let plan = Plan {
        program: env!("CARGO_BIN_EXE_autonomy"),
        seed,
        time: Duration::from_secs(seconds),
        requests: u64::MAX,
        pause: PAUSE,
        servers,
    };
    let outcome = serve_fuzz::run(plan);
    report(&outcome, seed);
    if !outcome.faults.is_empty() {
        std::process::exit(1);
    }
}

fn report(outcome: &Outcome, seed: u64) {
    let class = |first: u16| outcome.answers.range(first..first + 100).map(|(_, count)| count).sum::<u64>();
    let of = |status: u16| outcome.answers.get(&status).copied().unwrap_or_default();
    println!("requests            {}", outcome.requests);
    println!("  without an answer {}", outcome.unanswered);
    for first in [200, 300, 400, 500] {
        println!("  {}xx               {}", first / 100, class(first));
    }
    println!("  429, 503, 507     {}, {}, {}", of(429), of(503), of(507));
    println!("restarts            {}", outcome.restarts);
    println!("collections         {}", outcome.collections);
    println!("blobs hashed        {}", outcome.blobs);
    println!("peak memory         {} MiB", outcome.peak_kib / 1024);
    let verdict = if outcome.faults.is_empty() { "passed" } else { "FAILED" };
    println!("verdict: {verdict}: {} faults, seed {seed}", outcome.faults.len());
}
