//! Verifies the signature of an image with a public key, and prints the result of each step.
//!
//! Run `cargo run --example verify -- registry.example.com/app:v1 cosign.pub`. The exit code is 3 if the image is not verified.
#![expect(clippy::print_stdout, reason = "an example says what it does")]

use std::process::ExitCode;

use autonomy_registry::oci::Reference;
use autonomy_registry::verify::{Demands, PublicKey, StepOutcome};
use autonomy_registry::wire::{self, Client};
use autonomy_registry::workflow;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [image, key] = &arguments[..] else { return Err("usage: verify IMAGE KEY".into()) };
    let image: Reference = image.parse()?;
    let key = PublicKey::from_pem(&std::fs::read(key)?)?;

    // Plain HTTP only with a registry on this machine.
    let allow_plain_http = image.repository.is_loopback();
    let client = Client::new(wire::ClientOptions { allow_plain_http, ..wire::ClientOptions::default() })?;
    // An error says that the registry could not be asked. A failed verification is a report.
    let report = workflow::verify(&image, Demands::new(vec![key]), &client).await.map_err(|stopped| stopped.error)?;
    for step in report.steps() {
        let outcome = match &step.outcome {
            StepOutcome::Ok(detail) => format!("ok: {detail}"),
            StepOutcome::Skipped(reason) => format!("skipped: {reason}"),
            other => format!("{other:?}"),
        };
        println!("{}: {outcome}", step.step.as_str());
    }
    println!("{image} is {}", if report.is_verified() { "verified" } else { "not verified" });
    Ok(if report.is_verified() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
