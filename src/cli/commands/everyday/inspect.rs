//! `autonomy registry inspect`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Requests;
use crate::cli::commands::bundle::verify::Demanded;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::quantity::human;
use crate::terminal::interrupt::unless_interrupted;
use crate::terminal::print::{self, Output};
use crate::wire::Client;
use crate::workflow::{AttachmentKind, InspectedAttachment, InspectedPlatform, Inspection};

/// Shows an image in its registry: digest, platforms, sizes, and everything attached, as a tree. Reads no layer. With
/// --pub-key it is verified as by bundle verify: exit 3 if it fails.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The image: host[:port]/repository[:tag][@digest]
    #[arg(value_name = "REF")]
    image: Reference,
    /// Verify it with this cosign public key (SPKI PEM); repeatable, one matching key is enough
    #[arg(long, value_name = "FILE")]
    pub_key: Vec<PathBuf>,
    #[command(flatten)]
    demanded: Demanded,
    #[command(flatten)]
    requests: Requests,
}

impl Run for Inspect {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        if self.pub_key.is_empty() && self.demanded.is_asked() {
            let text = "--require-lock, --match-identity and the log flags verify, which needs --pub-key";
            return Err(Error::new(Kind::Usage, text).hint("name the key that signed, or leave them out"));
        }
        let demands = if self.pub_key.is_empty() { None } else { Some(self.demanded.demands(&self.pub_key)?) };
        let client = Client::new(self.demanded.access.client())?;
        client.check_credentials().await?;
        let read = Inspection::read(&self.image, demands, &client, self.requests.jobs);
        let stopped = Error::new(Kind::Interrupted, "inspect").on(&self.image);
        let inspection = unless_interrupted(read, stopped).await?;
        inspection.warnings.iter().for_each(|warning| context.warn(warning));
        let shown = context.show(&inspection, human)?;
        let failure = inspection.verification.and_then(|report| report.approve().err());
        // No JSON here: the report was printed as JSON already.
        Ok(failure.map_or(shown, |error| print::failure(&error, Output::Human)))
    }
}

/// Prints an inspection. All of its texts are printable already.
fn human(inspection: &Inspection) {
    print::line(&inspection.reference.to_string());
    // A digest fills a line of 80 columns: people copy it whole.
    print::line(&format!("  {}", inspection.digest));
    print::row("type", inspection.artifact_type.as_ref().unwrap_or(&inspection.media_type));
    print::row("created", inspection.created.map_or_else(|| "-".to_owned(), |time| time.to_string()));
    print::row("size", size(inspection));
    match &inspection.verification {
        Some(report) if report.is_verified() => print::row("trust", "verified with --pub-key"),
        Some(_) => print::row("trust", "NOT verified: see the error"),
        None => print::row("trust", "not verified; signers are claims, --pub-key verifies them"),
    }
    for line in inspection
        .verification
        .iter()
        .flat_map(|report| report.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
    {
        print::line(&format!("    {}", crate::error::printable(&line)));
    }
    tree_of(inspection).iter().for_each(|line| print::line(line));
}

fn size(inspection: &Inspection) -> String {
    let held = inspection.platforms.iter().filter(|entry| entry.platform.is_some() && entry.held).count();
    let bytes = human::bytes(inspection.size);
    match held {
        0 | 1 => bytes,
        count => format!("{bytes} for {count} platforms, each blob once"),
    }
}

/// A branch of the tree: its lines, and the branches below it.
struct Branch {
    lines: Vec<String>,
    below: Vec<Self>,
}

fn tree_of(inspection: &Inspection) -> Vec<String> {
    let platforms = inspection.platforms.iter().map(platform);
    let branches = platforms.chain(inspection.attached.iter().map(attachment)).collect();
    drawn(branches)
}

fn platform(entry: &InspectedPlatform) -> Branch {
    let name = entry.platform.as_deref().unwrap_or("no platform");
    let size = if entry.held { human::bytes(entry.size) } else { "not in this repository".to_owned() };
    let line = format!("{name:<15} {}  {size}", entry.digest.short());
    Branch { lines: vec![line], below: entry.attached.iter().map(attachment).collect() }
}

fn attachment(one: &InspectedAttachment) -> Branch {
    let kind = one.kind.as_str();
    let mut lines = vec![format!("{kind:<15} {}  {}", one.digest.short(), human::bytes(one.size))];
    if let (AttachmentKind::Sidecar(_), Some(tag)) = (one.kind, &one.tag) {
        lines[0].push_str(&format!("  tag {tag}"));
    }
    if let (AttachmentKind::Artifact | AttachmentKind::Sbom, Some(artifact_type)) = (one.kind, &one.artifact_type) {
        lines.push(artifact_type.clone());
    }
    lines.extend(one.predicate_types.iter().cloned());
    match (one.kind, one.claims_to_be_signed_by.as_slice()) {
        (AttachmentKind::Signature, _) if one.verified => {
            lines.push("verified: signed by a key that was given".to_owned())
        }
        (AttachmentKind::Signature, []) => lines.push("claims to be signed by a key that it does not name".to_owned()),
        (_, signers) => lines.extend(signers.iter().map(|signer| format!("claims to be signed by {signer}"))),
    }
    Branch { lines, below: one.attached.iter().map(attachment).collect() }
}

/// Draws branches, each with the lines that lead to it.
fn drawn(branches: Vec<Branch>) -> Vec<String> {
    let count = branches.len();
    let mut drawn_lines = Vec::new();
    for (position, Branch { lines, below }) in branches.into_iter().enumerate() {
        let is_last = position + 1 == count;
        let (first, next) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let details = if below.is_empty() { "  " } else { "│ " };
        let indented = lines.iter().enumerate().map(|(number, line)| match number {
            0 => format!("{first}{line}"),
            _ => format!("{next}{details}{line}"),
        });
        drawn_lines.extend(indented);
        drawn_lines.extend(drawn(below).into_iter().map(|line| format!("{next}{line}")));
    }
    drawn_lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lead_to_every_branch() {
        let branch =
            |lines: &[&str], below| Branch { lines: lines.iter().map(|&line| line.to_owned()).collect(), below };
        let inner = branch(&["c"], vec![branch(&["d", "of d"], vec![])]);
        let tree = vec![branch(&["a", "of a"], vec![branch(&["b"], vec![])]), inner];
        assert_eq!(drawn(tree).join("\n"), "├─ a\n│  │ of a\n│  └─ b\n└─ c\n   └─ d\n        of d");
    }
}
