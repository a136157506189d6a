//! `autonomy bundle seal`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::args::network::AccessArgs;
use crate::cli::args::output::Voice;
use crate::cli::args::trust;
use crate::cli::terminal::print;
use crate::cli::terminal::print::Output;
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::wire::Client;
use crate::workflow::{self, SealContent, SealedBundle};

/// Makes a bundle of an image in a registry: packs the policy, puts lock and policy next to the image, signs all three
/// with the time of signing, and verifies the result. Without --policy, only the image is signed.
#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    /// The image: host[:port]/repository:tag
    #[arg(value_name = "REF")]
    image: Reference,
    /// Private key from bundle keygen or cosign; the password comes from COSIGN_PASSWORD or a prompt
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Folder of the policy: manifest.json and *.rego
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// The prompt, whose hash goes into the lock; without it, the hash of zero bytes
    #[arg(long, value_name = "FILE", requires = "policy")]
    prompt: Option<PathBuf>,
    /// The inputs of the tools; hashed like --prompt
    #[arg(long, value_name = "FILE", requires = "policy")]
    tool_inputs: Option<PathBuf>,
    /// Format of the signatures
    #[arg(long, value_enum, default_value_t = FormatArg::Legacy)]
    format: FormatArg,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    voice: Voice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Under the tag sha256-<hex>.sig: every version of cosign reads it
    Legacy,
    /// As a bundle that refers to the signed manifest: the format of cosign 3
    Bundle,
    /// Both
    Both,
}

/// Longest time for cancelling open uploads at the end.
const TIDY: Duration = Duration::from_secs(3);

impl SealArgs {
    pub(crate) fn form(&self) -> Output {
        self.voice.output
    }

    pub(crate) async fn run(self) -> Result<()> {
        self.voice.start();
        if self.image.tag.is_none() && self.image.digest.is_none() {
            self.voice.warn(&format!("{} names no tag: latest is used", self.image));
        }
        let key = trust::signing_key("--key", &self.key).await?;
        let client = Client::new(self.access.client_for(&self.image.repository))?;
        let request = self.request();
        let done = tokio::select! {
            done = workflow::seal(&request, &key, &client) => done,
            () = crate::cli::interrupted() => Err(Error::new(Kind::Interrupted, "seal").on(&self.image)),
        };
        client.settle(TIDY).await;
        let sealed = done?;
        for name in &sealed.left_out {
            self.voice.warn(&format!("{name} is left out: a policy is manifest.json and *.rego"));
        }
        for text in sealed.weakened.iter().chain(&sealed.warnings) {
            self.voice.warn(text);
        }
        match self.voice.output {
            Output::Json => print::json(&sealed),
            Output::Human => {
                human(&sealed);
                Ok(())
            }
        }
    }

    fn request(&self) -> workflow::SealRequest {
        let content = self.policy.clone().map(|policy| SealContent {
            policy,
            prompt: self.prompt.clone(),
            tool_inputs: self.tool_inputs.clone(),
        });
        let format = match self.format {
            FormatArg::Legacy => workflow::SignatureFormat::Legacy,
            FormatArg::Bundle => workflow::SignatureFormat::Bundle,
            FormatArg::Both => workflow::SignatureFormat::Both,
        };
        workflow::SealRequest { image: self.image.clone(), content, format }
    }
}

fn human(sealed: &SealedBundle) {
    print::line(&format!("sealed {}", sealed.reference));
    let row = |name: &str, text: &str| print::line(&format!("  {name:<12} {text}"));
    row("digest", &sealed.digest.to_string());
    if let Some(lock) = &sealed.lock {
        row("lock", &format!("{} {}", lock.tag, lock.digest));
    }
    if let (Some(policy), Some(version)) = (&sealed.policy, &sealed.policy_bundle_version) {
        row("policy", &format!("{} {}, version {version}", policy.tag, policy.digest));
    }
    for line in sealed.verification.to_string().lines() {
        print::line(&format!("  {line}"));
    }
}
