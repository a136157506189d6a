//! `autonomy bundle verify`, and the same command as `autonomy verify`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::args::network::AccessArgs;
use crate::cli::args::trust;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::quantity::duration;
use crate::terminal::interrupt::unless_interrupted;
use crate::terminal::print;
use crate::terminal::print::Output;
use crate::verify::{Demands, Failure, IdentityRule, SidecarDemand, VerifyReport};
use crate::wire::Client;
use crate::workflow::{self, Unfinished};

/// Verifies an image in its registry, fail-closed; nothing is copied. The age of the signature is checked unless
/// AUTONOMY_TRUST_TIME=false.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The image: host[:port]/repository[:tag][@digest]
    #[arg(value_name = "REF")]
    image: Reference,
    /// Cosign public key (SPKI PEM); repeatable, one matching key is enough
    #[arg(long, value_name = "FILE", required = true)]
    pub_key: Vec<PathBuf>,
    #[command(flatten)]
    demanded: Demanded,
}

/// Same as bundle verify, with flags for image and key.
#[derive(Debug, Args)]
pub(crate) struct ByFlags {
    /// The image: host[:port]/repository[:tag][@digest]
    #[arg(long, value_name = "REF")]
    image: Reference,
    /// Cosign public key (SPKI PEM); repeatable, one matching key is enough
    #[arg(long = "pub", alias = "pub-key", value_name = "FILE", required = true)]
    pub_key: Vec<PathBuf>,
    #[command(flatten)]
    demanded: Demanded,
}

/// Requirements beyond the image's signature.
#[derive(Debug, Args)]
pub(crate) struct Demanded {
    /// Require the lock sidecar: signed, and matching the image
    #[arg(long)]
    require_lock: bool,
    /// Require the policy sidecar: signed, and the one that the lock names
    #[arg(long, requires = "require_lock")]
    require_policy: bool,
    /// Greatest age of a signature, as a Go duration: 8760h, 1h30m
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = duration::parse, allow_hyphen_values = true)]
    max_age: Duration,
    /// The signed data must name this repository: refuses images mirrored from another one
    #[arg(long)]
    match_identity: bool,
    #[command(flatten)]
    log: trust::LogArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

impl Run for ByFlags {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let Self { image, pub_key, demanded } = self;
        Verify { image, pub_key, demanded }.run(context).await
    }
}

impl Run for Verify {
    /// Verifies and prints the report, whatever its result. Returns an error only if there is no report.
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        if self.image.tag.is_none() && self.image.digest.is_none() {
            context.warn(format_args!("{} names no tag: latest is used, which is not pinned and moves", self.image));
        }
        let (report, error) = match self.report().await {
            Ok(report) => (report.clone(), report.approve().err()),
            Err(Unfinished { digest, error }) => match Failure::of(&error) {
                Some(failure) => {
                    let error = error.hint(failure.class.hint());
                    (VerifyReport::unreached(self.image.clone(), digest, failure), Some(error))
                }
                None => return Err(error),
            },
        };
        let done = context.show(&report, human)?;
        // No JSON here: the report was printed as JSON already.
        Ok(error.map_or(done, |error| print::failure(&error, Output::Human)))
    }
}

impl Verify {
    async fn report(&self) -> Result<VerifyReport, Unfinished> {
        let demands = self.demanded.demands(&self.pub_key)?;
        let client = Client::new(self.demanded.access.client_for(&self.image.repository))?;
        let stopped = Error::new(Kind::Interrupted, "verify").on(&self.image);
        unless_interrupted(workflow::verify(&self.image, demands, &client), stopped).await
    }
}

impl Demanded {
    /// Returns whether there are requirements that need a key.
    pub(crate) fn is_asked(&self) -> bool {
        self.require_lock || self.match_identity || self.log.is_asked()
    }

    /// Reads the keys, and returns all requirements.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) for a file that holds no public key.
    pub(crate) fn demands(&self, pub_key: &[PathBuf]) -> Result<Demands> {
        let Self { require_lock, require_policy, max_age, match_identity, log, .. } = self;
        let keys = pub_key.iter().map(|path| trust::public_key("--pub-key", path)).collect::<Result<_>>()?;
        let demand = |is_asked| if is_asked { SidecarDemand::Required } else { SidecarDemand::NotAsked };
        let mut demands = Demands {
            max_age: *max_age,
            trust_time: trust::time()?,
            identity: if *match_identity { IdentityRule::MatchRepository } else { IdentityRule::Any },
            lock: demand(*require_lock),
            policy: demand(*require_policy),
            ..Demands::new(keys)
        };
        log.demand(&mut demands)?;
        Ok(demands)
    }
}

/// Prints a report for people, in colour on a terminal unless `NO_COLOR` is set (<https://no-color.org>).
fn human(report: &VerifyReport) {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let is_coloured = is_wanted && std::io::stdout().is_terminal();
    let verdict = if report.is_verified() { "verified" } else { "not verified" };
    print::line(&format!("{verdict} {}", report.reference()));
    if let Some(digest) = report.digest() {
        print::line(&format!("  {:<12} {digest}", "digest"));
    }
    for line in report.to_string().lines() {
        let line = if is_coloured { coloured(line) } else { line.to_owned() };
        print::line(&format!("  {line}"));
    }
}

/// Colours the status in a line of a report. The details come from outside, and stay unchanged.
fn coloured(line: &str) -> String {
    const COLOURS: [(&str, &str); 3] = [("ok", "32"), ("failed", "31"), ("skipped", "33")];
    // Reports are aligned: the status begins after a name of twelve characters and a space.
    let Some((what, rest)) = line.split_at_checked(13) else { return line.to_owned() };
    let found = COLOURS.iter().find_map(|(status, colour)| Some((status, colour, rest.strip_prefix(status)?)));
    match found {
        Some((status, colour, rest)) if rest.starts_with(' ') => {
            format!("{what}\u{1b}[{colour}m{status}\u{1b}[0m{rest}")
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::ErrorClass;

    #[test]
    fn only_the_status_is_coloured() {
        let failure = Failure::new(ErrorClass::Transport, "ok failed skipped");
        let report = VerifyReport::unreached("a.example/b:c".parse().unwrap(), None, failure).to_string();
        let lines: Vec<_> = report.lines().map(coloured).collect();
        assert_eq!(lines[0], "error        \u{1b}[31mfailed\u{1b}[0m   TRANSPORT: ok failed skipped");
        assert_eq!(lines[1], "signatures   \u{1b}[33mskipped\u{1b}[0m  not reached");
        assert_eq!(coloured("weakened              ok then"), "weakened              ok then");
    }
}
